"""YOLO folders: `images` beside `labels/*.txt`, one object per line, in fractions of the image's width and height.

    class center_x center_y width height            a box
    class x1 y1 x2 y2 x3 y3 …                       a polygon, which becomes its bounding box

Class names are in `data.yaml` (or `dataset.yaml`, `classes.txt`) in the folder or up to two above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrqm.config.yaml_file import YamlError, read_yaml
from mrqm.data.formats.class_names import order_classes
from mrqm.data.formats.image_sizes import KnownSizes
from mrqm.data.formats.text import read_lines
from mrqm.data.images.decoding import SUFFIXES, read_sizes
from mrqm.structures.annotations import AnnotationSet, DataError, ImageRecord, Repairs, require_folder, require_none
from mrqm.structures.ground_truth import make_ground_truth

_NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "labels/classes.txt")


def read_yolo(folder: Path, classes: tuple[str, ...] | None = None, sizes: KnownSizes | None = None) -> AnnotationSet:
    """Read one split of a YOLO data set.

    An image without label file has no objects, as usual in YOLO; the number of such images is logged.

    Args:
        folder: folder with `images` and `labels`, or `…/images/train` with its labels in `…/labels/train`.
        classes: class names in label order, which are those of the data set's own file in any order; None takes that
            file's order. Without such a file they are the names of the numbers.
        sizes: sizes of images that may be absent, in which case label files count as images too; None reads the images'
            headers.

    Returns:
        The annotations of the split.

    Raises:
        DataError: a folder is missing or empty, label files have no image, a line does not parse, a class number is
            out of range, or the classes are not those of the data set's file.
    """
    names = find_names(folder)
    own = _parse_names(names) if names else read_yolo_classes(folder) if classes is None else classes
    images, labels = _find_folders(folder)
    files = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
    if sizes:
        files = _with_missing(files, images, labels)
    if not files:
        raise DataError(f"{images}: no images in this folder; expected {', '.join(sorted(SUFFIXES))}")
    texts = [(labels / path.relative_to(images)).with_suffix(".txt") for path in files]
    if len(set(texts)) != len(texts):
        raise DataError(f"{images}: two images share the label file {next(t for t in texts if texts.count(t) > 1)}")
    repairs = Repairs()
    _check_label_files(labels, texts, repairs)
    records, unreadable = [], []
    found = sizes.find(files) if sizes else read_sizes(files)
    for number, (file, text, size) in enumerate(zip(files, texts, found, strict=True)):
        if size is None:
            unreadable.append(file)
        else:
            records.append(_make_record(file, number, size, text, own, repairs))
    annotations = AnnotationSet(own, tuple(records), repairs, tuple(unreadable))
    return order_classes(annotations, own if classes is None else classes, names or folder)


def read_yolo_classes(folder: Path) -> tuple[str, ...]:
    """Read the class names of the data set that a folder belongs to.

    Raises:
        DataError: no file names them, or the file names none.
    """
    if names := find_names(folder):
        return _parse_names(names)
    raise DataError(f"{folder}: no {' or '.join(_NAME_FILES)} here or above names the classes; set data.classes")


def find_names(folder: Path) -> Path | None:
    """Find the file that names the classes of the data set that a folder belongs to; None if there is none."""
    places = (folder, folder.parent, folder.parent.parent)
    return next((place / name for place in places for name in _NAME_FILES if (place / name).is_file()), None)


def _parse_names(path: Path) -> tuple[str, ...]:
    if path.suffix == ".txt":
        names: object = [line.strip() for line in read_lines(path) if line.strip()]
    else:
        try:
            content = read_yaml(path)
        except YamlError as error:
            raise DataError(str(error)) from error
        names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or len(set(names)) != len(names):
        raise DataError(f"{path}: `names` must list different class names, or number them from 0; found {names!r}")
    return tuple(str(name) for name in names)


def _find_folders(folder: Path) -> tuple[Path, Path]:
    """Find the folders of images and of label files."""
    require_folder(folder)
    if (folder / "images").is_dir() or (folder / "labels").is_dir():
        return folder / "images", folder / "labels"
    parts = folder.parts
    if "images" not in parts:
        raise DataError(f"{folder}: expected the folders images and labels in it, or a folder such as images/train")
    last = len(parts) - 1 - parts[::-1].index("images")
    return folder, Path(*parts[:last], "labels", *parts[last + 1 :])


def _with_missing(files: list[Path], images: Path, labels: Path) -> list[Path]:
    """Add an image for each label file that has none."""
    stems = {path.relative_to(images).with_suffix("") for path in files}
    texts = {path.relative_to(labels).with_suffix("") for path in _label_files(labels)}
    return sorted([*files, *(images / f"{stem}.jpg" for stem in texts - stems)])


def _label_files(labels: Path) -> set[Path]:
    return {path for path in labels.rglob("*.txt") if path.name != "classes.txt"}


def _check_label_files(labels: Path, texts: list[Path], repairs: Repairs) -> None:
    require_folder(labels)
    found = _label_files(labels)
    require_none(sorted(found - set(texts)), f"{labels}: label files without image")
    if missing := sorted(set(texts) - found):
        repairs.note(str(missing[0]), f"{len(missing)} images have no label file, first this one; taken as empty")


def _make_record(
    file: Path, number: int, size: tuple[int, int], text: Path, classes: tuple[str, ...], repairs: Repairs
) -> ImageRecord:
    rows = list(_read_lines(text, len(classes))) if text.is_file() else []
    height, width = size
    shares = np.array([box for _, _, box in rows], dtype=np.float64).reshape(-1, 4)
    boxes = shares * [width, height, width, height]
    repairs.note_boxes(boxes, size, [place for place, _, _ in rows])
    labels = np.array([label for _, label, _ in rows], dtype=np.int64)
    return ImageRecord(file, number, size, make_ground_truth(boxes, labels))


def _read_lines(path: Path, num_classes: int) -> Iterator[tuple[str, int, NDArray[np.float64]]]:
    """Yield place, label and xywh fractions of every line."""
    lines = read_lines(path)
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path}:{number}", *_parse_line(f"{path}:{number}", line, num_classes)


def _parse_line(place: str, line: str, num_classes: int) -> tuple[int, NDArray[np.float64]]:
    try:
        label, *numbers = [float(text) for text in line.split()]
    except ValueError:
        label, numbers = -1, []
    is_polygon = len(numbers) >= 6 and len(numbers) % 2 == 0
    if not (len(numbers) == 4 or is_polygon) or not all(map(isfinite, (label, *numbers))):
        raise DataError(f"{place}: cannot read {line!r}; expected `class cx cy width height` or a polygon")
    if label not in range(num_classes):
        raise DataError(f"{place}: class {label:g} is out of range; the data set has classes 0 to {num_classes - 1}")
    if is_polygon:
        points = np.array(numbers).reshape(-1, 2)
        return int(label), np.concatenate([points.min(axis=0), np.ptp(points, axis=0)])
    x, y, width, height = numbers
    return int(label), np.array([x - width / 2, y - height / 2, width, height])
