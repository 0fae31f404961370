"""Result texts, one for each image and named like it, read with annotations.

VisDrone   left,top,width,height,score,category,-1,-1     px; categories from 1
YOLO       class cx cy width height confidence            fractions of the image's sides; classes from 0
           class x1 y1 x2 y2 x3 y3 … confidence           a polygon, which becomes its bounding box
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrqm.data.formats.class_names import match_classes
from mrqm.data.formats.text import read_lines
from mrqm.data.formats.visdrone import VISDRONE_CLASSES, parse_row, visdrone_numbers
from mrqm.data.results.writer import Results, note_uncovered
from mrqm.structures.annotations import DataError, ImageRecord, require_none
from mrqm.structures.detections import Detections

_FIELDS = "left,top,width,height,score,category,-1,-1"
_YOLO_FIELDS = "class cx cy width height confidence"


def read_text_results(
    folder: Path, records: Sequence[ImageRecord], classes: Sequence[str], numbered: Sequence[str] | None = None
) -> Results:
    """Read a folder of VisDrone or YOLO texts; the first line that is not empty decides which.

    Args:
        folder: folder of the texts, or one with the folder `labels`, as Ultralytics' `save_txt` makes it.
        records: annotated images.
        classes: class names in label order.
        numbered: class names in the order of the data set's own numbers, which YOLO texts have; None takes the classes.

    Returns:
        Detections of every record, as from `read_visdrone_results` or `read_yolo_results`.

    Raises:
        DataError: the texts cannot be used, as in `read_visdrone_results` and `read_yolo_results`.
    """
    if not any(folder.glob("*.txt")) and (folder / "labels").is_dir():
        folder = folder / "labels"
    lines = (line for path in sorted(folder.glob("*.txt")) for line in read_lines(path) if line.strip())
    is_yolo = "," not in next(lines, ",")
    if not is_yolo:
        return read_visdrone_results(folder, records, classes)
    own = tuple(classes if numbered is None else numbered)
    return read_yolo_results(folder, records, own).relabelled(match_classes(own, classes, folder))


def read_visdrone_results(
    folder: Path, records: Sequence[ImageRecord], classes: Sequence[str] = VISDRONE_CLASSES
) -> Results:
    """Read a folder of VisDrone result texts.

    Args:
        folder: folder of the texts; an empty text means that nothing was detected in its image.
        records: annotated images.
        classes: class names in label order; their numbers are those of `visdrone_numbers`.

    Returns:
        Detections of every record, and those in the order of the rows where these are not sorted by score.

    Raises:
        DataError: texts that are missing or belong to no image, lines that do not parse, or unknown categories.
    """
    paths = _pair(folder, records)
    missing = [path for path in paths if not path.is_file()]
    require_none(missing, f"{folder}: images without result file (an empty file would mean no detections)")
    written = tuple(_read_visdrone_text(path, classes) for path in paths)
    found = tuple(detections.by_falling_score() for detections in written)
    is_sorted = all((np.diff(detections.scores) <= 0).all() for detections in written)
    return Results(found, None if is_sorted else written)


def read_yolo_results(folder: Path, records: Sequence[ImageRecord], classes: Sequence[str]) -> Results:
    """Read a folder of YOLO texts with confidences, as Ultralytics' `save_txt` with `save_conf` writes them.

    Args:
        folder: folder of the texts; an image without text has no detections.
        records: annotated images.
        classes: names of classes 0, 1, …

    Returns:
        Detections of every record, and a note on images with objects and no text.

    Raises:
        DataError: texts that belong to no image, lines that do not parse, among them those without confidence, or
            unknown classes.
    """
    paths = _pair(folder, records)
    found = tuple(
        _read_yolo_text(path, record.size, classes).by_falling_score()
        for path, record in zip(paths, records, strict=True)
    )
    covered = {index for index, path in enumerate(paths) if path.is_file()}
    return Results(found, notes=note_uncovered(folder, records, covered))


def _pair(folder: Path, records: Sequence[ImageRecord]) -> list[Path]:
    """List the text of every record, present or not."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one text file per image")
    paths = [folder / f"{record.path.stem}.txt" for record in records]
    if len(set(paths)) != len(paths):
        raise DataError(f"{folder}: several images are named {Counter(paths).most_common(1)[0][0].stem}")
    strangers = sorted(set(folder.glob("*.txt")) - set(paths))
    require_none(strangers, f"{folder}: result files of images that the annotations do not have")
    if not any(path.is_file() for path in paths):
        raise DataError(f"{folder}: holds no text of any image, such as {paths[0].name}")
    return paths


def _read_visdrone_text(path: Path, classes: Sequence[str]) -> Detections:
    """Read detections in the order of the rows."""
    names = dict(zip(visdrone_numbers(classes), classes, strict=True))
    numbered = enumerate(read_lines(path), start=1)
    parsed = [_parse_visdrone_line(path, number, line, names) for number, line in numbered if line.strip()]
    rows = np.array(parsed, dtype=np.float64).reshape(-1, 8)
    labels = np.array([classes.index(names[number]) for number in rows[:, 5]], dtype=np.int64)
    return Detections(rows[:, :4], rows[:, 4], labels)


def _parse_visdrone_line(path: Path, number: int, line: str, names: Mapping[int, str]) -> list[float]:
    row = parse_row(f"{path}:{number}", line, _FIELDS)
    if min(row[2:4]) < 0:
        raise DataError(f"{path}:{number}: negative width or height in {line!r}; expected {_FIELDS} in px")
    if row[5] not in names:
        known = ", ".join(f"{category} {name}" for category, name in sorted(names.items()))
        hint = "; are these categories numbered from 0?" if row[5] == 0 else ""
        raise DataError(f"{path}:{number}: unknown category {row[5]:g}; known are {known}{hint}")
    return row


def _read_yolo_text(path: Path, size: tuple[int, int], classes: Sequence[str]) -> Detections:
    """Read detections in the order of the rows; none if there is no text."""
    lines = read_lines(path) if path.is_file() else []
    parsed = [_parse_yolo_line(f"{path}:{i}", line, classes) for i, line in enumerate(lines, start=1) if line.strip()]
    labels = np.array([label for label, _, _ in parsed], dtype=np.int64)
    scores = np.array([score for _, _, score in parsed], dtype=np.float64)
    shares = np.array([box for _, box, _ in parsed], dtype=np.float64).reshape(-1, 4)
    height, width = size
    return Detections(shares * [width, height, width, height], scores, labels)


def _parse_yolo_line(place: str, line: str, classes: Sequence[str]) -> tuple[int, NDArray[np.float64], float]:
    """Parse label, xywh fractions and confidence."""
    try:
        label, *numbers = [float(text) for text in line.split()]
    except ValueError:
        label, numbers = -1.0, []
    if not all(map(isfinite, (label, *numbers))) or len(numbers) < 4:
        raise DataError(f"{place}: cannot read {line!r}; expected {_YOLO_FIELDS}")
    if len(numbers) % 2 == 0:
        raise DataError(f"{place}: no confidence in {line!r}; expected {_YOLO_FIELDS} (Ultralytics: save_conf=True)")
    if label not in range(len(classes)):
        raise DataError(f"{place}: unknown class {label:g}; the data has classes 0 to {len(classes) - 1}")
    *numbers, score = numbers
    if len(numbers) > 4:
        points = np.array(numbers).reshape(-1, 2)
        return int(label), np.concatenate([points.min(axis=0), np.ptp(points, axis=0)]), score
    x, y, width, height = numbers
    if min(width, height) < 0:
        raise DataError(f"{place}: negative width or height in {line!r}; expected {_YOLO_FIELDS}")
    return int(label), np.array([x - width / 2, y - height / 2, width, height]), score
