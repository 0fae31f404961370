"""VisDrone-DET's native layout: `images/*.jpg` beside `annotations/*.txt`, one object a line.

    left,top,width,height,score,category,truncation,occlusion

Integer px, no header; the released files have some trailing commas and some boxes without area.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrqm.data.formats.class_names import name_numbers, order_classes
from mrqm.data.formats.image_sizes import KnownSizes
from mrqm.data.formats.text import read_lines
from mrqm.data.images.decoding import SUFFIXES, read_sizes
from mrqm.structures.annotations import (
    IGNORED_REGION,
    OTHER_OBJECT,
    AnnotationSet,
    DataError,
    ImageRecord,
    Repairs,
    require_folder,
    require_none,
)
from mrqm.structures.ground_truth import make_ground_truth

VISDRONE_CLASSES = (
    "pedestrian",
    "people",
    "bicycle",
    "car",
    "van",
    "truck",
    "tricycle",
    "awning-tricycle",
    "bus",
    "motor",
)
"""Categories 1 to 10 of VisDrone-DET, in the order of their numbers."""

_FIELDS = "left,top,width,height,score,category,truncation,occlusion"


def read_visdrone(
    folder: Path, classes: tuple[str, ...] | None = None, sizes: KnownSizes | None = None
) -> AnnotationSet:
    """Read a folder in VisDrone-DET's native layout.

    Category numbers are VisDrone's own if the classes are VisDrone's ten, in any order; numbers of other data in this
    layout are 1..len(classes), in order. Three kinds of rows become ignored regions instead of
    objects, because training must not penalise a detection where objects are not annotated or not identified: category
    0 (VisDrone's ignored regions), category len(classes) + 1 (its "others"), and objects with score 0 (not evaluated).
    Protocols of evaluation treat detections there differently.

    Args:
        folder: folder with `images` and `annotations`; an empty annotation file is an image without objects.
        classes: class names in label order; None takes VisDrone's ten.
        sizes: sizes of images that may be absent; None reads the images' headers.

    Returns:
        The annotations of the folder.

    Raises:
        DataError: a folder is missing or empty, images and annotations do not pair, a line does not parse, or a
            category number is unknown.
    """
    classes = classes if classes is not None else VISDRONE_CLASSES
    own = name_numbers(VISDRONE_CLASSES, classes)
    pairs = _pair_files(folder, needs_images=sizes is None)
    images = [image for image, _ in pairs]
    repairs = Repairs()
    records, unreadable = [], []
    found = sizes.find(images) if sizes else read_sizes(images)
    for number, ((image, text), size) in enumerate(zip(pairs, found, strict=True)):
        rows = read_rows(text, own, repairs)
        if size is None:
            unreadable.append(image)
        else:
            records.append(_make_record(image, number, size, rows, len(own), repairs))
    return order_classes(AnnotationSet(own, tuple(records), repairs, tuple(unreadable)), classes, folder)


def visdrone_numbers(classes: Sequence[str]) -> tuple[int, ...]:
    """Return the category number of each class: VisDrone's own if the classes are its ten, else from 1 on."""
    own = name_numbers(VISDRONE_CLASSES, classes)
    return tuple(own.index(name) + 1 for name in classes)


def parse_row(place: str, line: str, fields: str) -> list[float]:
    """Parse the eight numbers of a line of annotations or results, with or without a trailing comma.

    Args:
        place: `file:line`, for the message.
        line: text of the line.
        fields: names of the numbers, for the message.

    Returns:
        The eight numbers.

    Raises:
        DataError: the line does not hold eight finite numbers.
    """
    try:
        row = [float(text) for text in line.strip().removesuffix(",").split(",")]
    except ValueError:
        row = []
    if len(row) != 8 or not all(map(isfinite, row)):
        raise DataError(f"{place}: cannot read {line!r}; expected eight numbers {fields}")
    return row


class Rows(NamedTuple):
    """Rows of one annotation file.

    Attributes:
        fields: (N, 8) left, top, width, height, score, category, truncation, occlusion.
        places: (N,) place of each row, as `file:line`.
    """

    fields: NDArray[np.float64]
    places: list[str]


def read_rows(path: Path, classes: tuple[str, ...], repairs: Repairs) -> Rows:
    """Read one annotation file, without its image.

    Args:
        path: annotation file.
        classes: class names in the order of their category numbers from 1.
        repairs: log to which repairs are added.

    Returns:
        The rows.

    Raises:
        DataError: the file is not text, a line does not parse, or a category number is unknown.
    """
    lines = read_lines(path)
    rows, places = [], []
    for number, line in enumerate(lines, start=1):
        if text := line.strip():
            place = f"{path}:{number}"
            if text.endswith(","):
                repairs.note(place, "trailing comma left out")
            rows.append(_parse_line(place, text, classes))
            places.append(place)
    return Rows(np.array(rows, dtype=np.float64).reshape(-1, 8), places)


def _pair_files(folder: Path, *, needs_images: bool) -> list[tuple[Path, Path]]:
    for part in (folder, folder / "annotations", *([folder / "images"] if needs_images else [])):
        require_folder(part)
    found = sorted(path for path in (folder / "images").glob("*") if path.suffix.lower() in SUFFIXES)
    images = {path.stem: path for path in found}
    texts = {path.stem: path for path in sorted((folder / "annotations").glob("*.txt"))}
    if not needs_images:
        images = {stem: images.get(stem, folder / "images" / f"{stem}.jpg") for stem in sorted(images.keys() | texts)}
    if not images:
        raise DataError(f"{folder / 'images'}: no images in this folder; expected {', '.join(sorted(SUFFIXES))}")
    ambiguous = [path for path in found if images[path.stem] != path]
    require_none(ambiguous, f"{folder}: images that share a name, and so an annotation file, with another")
    without_text = [path for stem, path in images.items() if stem not in texts]
    require_none(without_text, f"{folder}: images without annotation file (an empty file would mean no objects)")
    without_image = [path for stem, path in texts.items() if stem not in images]
    require_none(without_image, f"{folder}: annotation files without image")
    return [(path, texts[stem]) for stem, path in images.items()]


def _parse_line(place: str, line: str, classes: tuple[str, ...]) -> list[float]:
    row = parse_row(place, line, _FIELDS)
    others = len(classes) + 1
    if row[5] not in range(others + 1):
        names = ", ".join(f"{category} {name}" for category, name in enumerate(classes, start=1))
        raise DataError(
            f"{place}: unknown category {row[5]:g}; known are 0 ignored region, {names}, {others} others"
            " (data.classes names them)"
        )
    return row


def _make_record(
    image: Path, number: int, size: tuple[int, int], rows: Rows, num_classes: int, repairs: Repairs
) -> ImageRecord:
    repairs.note_boxes(rows.fields[:, :4], size, rows.places)
    score, category = rows.fields[:, 4], rows.fields[:, 5].astype(np.int64)
    labels = np.where(category == 0, IGNORED_REGION, np.where(category > num_classes, OTHER_OBJECT, category - 1))
    return ImageRecord(image, number, size, make_ground_truth(rows.fields[:, :4], labels, ignored=score == 0))
