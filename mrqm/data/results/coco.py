"""COCO result files of any tool, read with their annotations.

    [{"image_id": 7, "category_id": 1, "bbox": [left, top, width, height], "score": 0.9}]

An `image_id` is the annotations' own id or, as Ultralytics writes it, the name of the image file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NotRequired

import numpy as np
from pydantic import FiniteFloat, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from mrqm.data.formats.coco_schema import Id
from mrqm.data.results.writer import Results, note_uncovered
from mrqm.structures.annotations import DataError, ImageRecord
from mrqm.structures.detections import Detections


class _Entry(TypedDict):
    """One detection of a result file; other fields are ignored."""

    image_id: Id
    category_id: Id
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
    score: FiniteFloat
    file_name: NotRequired[str]


_ENTRIES = TypeAdapter(list[_Entry])


def read_coco_results(
    path: Path,
    records: Sequence[ImageRecord],
    labels: Mapping[Id, int | None],
    *,
    covers_all: bool = False,
    other_images: Collection[Id] = (),
) -> Results:
    """Read a COCO result file.

    Args:
        path: json list; an empty list means that nothing was detected.
        records: annotated images.
        labels: label of each category's id; None for a category that is annotated but not among the classes, whose
            detections are ignored.
        covers_all: True if images without an entry are known to have no detections; else such images are noted.
        other_images: ids of images without annotations, whose detections are ignored.

    Returns:
        Detections of every record, and notes on images without any, ids that are file names, and ignored categories.

    Raises:
        DataError: no file, an empty one or one that does not parse, NaN, negative sizes, or images or categories that
            the annotations do not have.
    """
    others = set(map(str, other_images))
    entries = [entry for entry in _parse(path) if str(entry["image_id"]) not in others]
    images, notes = _find_images(path, entries, records)
    chosen, label, passed_over = _find_labels(path, entries, labels)
    xywh = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
    if (negative := np.flatnonzero((xywh[:, 2:] < 0).any(axis=1))).size:
        index = int(negative[0])
        raise DataError(
            f"{path}: entry {index} has bbox {xywh[index].tolist()}; expected [left, top, width, height] in px"
        )
    image = np.array(images, dtype=np.int64)[chosen]
    scores = np.array([entry["score"] for entry in entries], dtype=np.float64)[chosen]
    order = np.lexsort((-scores, image))
    boxes, scores, label = xywh[chosen][order], scores[order], label[chosen][order]
    ends = np.searchsorted(image[order], np.arange(len(records) + 1))
    found = [
        Detections(boxes[begin:end], scores[begin:end], label[begin:end])
        for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]
    uncovered = () if covers_all else note_uncovered(path, records, set(images))
    return Results(tuple(found), notes=(*notes, *passed_over, *uncovered))


def _parse(path: Path) -> list[_Entry]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a json list of detections")
    content = path.read_bytes()
    if not content.strip():
        raise DataError(f"{path}: empty file; without detections the file holds []")
    try:
        return _ENTRIES.validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = "".join(f" {part}" for part in fault["loc"])
        more = f" (and {error.error_count() - 1} more faults)" if error.error_count() > 1 else ""
        raise DataError(f"{path}: not a COCO result file: entry{where}: {fault['msg']}{more}") from error


def _find_images(
    path: Path, entries: Sequence[_Entry], records: Sequence[ImageRecord]
) -> tuple[list[int], tuple[str, ...]]:
    """Find the position of each entry's record, with a note where it was found by the name of the image file.

    `file_name` beside `image_id` decides: Ultralytics takes the number in a name as the id, which may be another
    image's.
    """
    by_id = {str(record.image_id): index for index, record in enumerate(records)}
    ids = [str(entry["image_id"]) for entry in entries]
    found = [by_id.get(text) for text in ids]
    names = _by_name(records)
    by_file = [names.get(PurePosixPath(entry.get("file_name", "")).name) for entry in entries]
    if None not in by_file and by_file != found:
        return _positions(by_file), (f"{path}: images are found by file_name; image_id is not the annotations'",)
    if None not in found:
        return _positions(found), ()
    by_name = [names.get(text) for text in ids]
    if None not in by_name:
        return _positions(by_name), (f"{path}: every image_id is the name of an image file, as Ultralytics writes it",)
    raise _unknown(path, "image", [entry["image_id"] for entry in entries], by_id, "images")


def _by_name(records: Sequence[ImageRecord]) -> dict[str, int]:
    """Map names, stems, and numeric stems to positions of records, each as far as it is the name of one image only."""
    names: list[tuple[str, int]] = []
    for index, record in enumerate(records):
        stem = record.path.stem
        numbers = {str(int(stem))} if stem.isascii() and stem.isdecimal() else set()
        names += [(name, index) for name in {record.path.name, stem} | numbers]
    times = Counter(name for name, _ in names)
    return {name: index for name, index in names if times[name] == 1}


def _positions(found: Iterable[int | None]) -> list[int]:
    return [index for index in found if index is not None]


def _find_labels(
    path: Path, entries: Sequence[_Entry], labels: Mapping[Id, int | None]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Find (N,) bool, True for entries that count, (N,) their labels, and a note for each ignored category."""
    by_text = {str(category): label for category, label in labels.items()}
    categories = [str(entry["category_id"]) for entry in entries]
    if not by_text.keys() >= set(categories):
        raise _unknown(path, "category", [entry["category_id"] for entry in entries], by_text, "categories")
    found = [by_text[category] for category in categories]
    passed_over = Counter(category for category, label in zip(categories, found, strict=True) if label is None)
    notes = [
        f"{path}: {count} detections of category {category}, which is not among data.classes, are ignored"
        for category, count in passed_over.items()
    ]
    label = np.array([-1 if value is None else value for value in found], dtype=np.int64)
    return label >= 0, label, notes


def _unknown(path: Path, what: str, ids: Sequence[Id], known: Mapping[str, object], these: str) -> DataError:
    """Make the error for results that name an image or category that the annotations do not have."""
    unknown = [index for index, value in enumerate(ids) if str(value) not in known]
    index = unknown[0]
    return DataError(
        f"{path}: {len({str(ids[i]) for i in unknown})} {what} ids that the annotations do not have, first "
        f"{what}_id {ids[index]} in entry {index}; {_guess(ids, known, these)}"
    )


def _guess(ids: Sequence[Id], known: Mapping[str, object], these: str) -> str:
    """Suggest a likely reason why ids are unknown."""
    numbers = {value for value in ids if isinstance(value, int)}
    if len(numbers) == len(set(ids)):
        if all(str(number + 1) in known for number in numbers):
            return f"each of them plus 1 is known: are these {these} numbered from 0?"
        if all(str(number - 1) in known for number in numbers):
            return f"each of them minus 1 is known: are these {these} numbered from 1?"
        if numbers <= set(range(len(known) + 1)):
            return f"are they positions among the {len(known)} {these} instead of their ids?"
    return "are these results of the same data set?"
