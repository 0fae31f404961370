"""Result files of any detector, read as detections of annotated images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mrqm.config import DataConfig
from mrqm.data.formats.class_names import match_classes
from mrqm.data.formats.coco import read_category_labels
from mrqm.data.formats.coco_schema import Id
from mrqm.data.formats.image_sizes import KnownSizes
from mrqm.data.formats.readers import name_class_numbers, read_annotations, read_scored_classes
from mrqm.data.images.decoding import decode
from mrqm.data.results.coco import read_coco_results
from mrqm.data.results.text import read_text_results
from mrqm.data.results.writer import Results
from mrqm.structures.annotations import AnnotationSet, DataError, ImageRecord

BLANK = 1000
"""Longer side in px of the placeholder for a missing image."""


def read_scored(data: DataConfig, sizes: Path | None = None) -> AnnotationSet:
    """Read the validation annotations; neither images nor training data are needed.

    Args:
        data: `data` section of a configuration; without `classes`, all classes of the annotations are used.
        sizes: list of the images' sizes; see `KnownSizes`.

    Returns:
        Annotations of all images.

    Raises:
        DataError: the annotations cannot be read or have no objects, or the size of an image is unknown.
    """
    folder = data.folder / data.val
    classes = data.classes or read_scored_classes(data.format, folder)
    annotations = read_annotations(data.format, folder, classes, KnownSizes(sizes))
    if not any(len(record.boxes) for record in annotations.records):
        raise DataError(f"{folder}: no object in {len(annotations.records)} images")
    return annotations


def read_result_files(path: Path, annotations: AnnotationSet, data: DataConfig) -> Results:
    """Read results in any supported format.

    Args:
        path: a COCO result file, a folder of VisDrone or YOLO texts, or the folder that `mrqm predict` wrote.
        annotations: annotations of the same images.
        data: `data` section of the configuration that names the annotations.

    Returns:
        Detections of every annotated image, with notes.

    Raises:
        DataError: the results do not parse or do not match the annotations.
    """
    records, classes = annotations.records, annotations.classes
    if _is_of_predict(path):
        return _read_predicted(path, records, classes)
    numbered = name_class_numbers(data.format, data.folder / data.val, classes)
    if path.is_dir():
        return read_text_results(path, records, classes, numbered)
    if data.format == "coco":
        return read_coco_results(path, records, read_category_labels(data.folder / data.val, classes))
    return read_coco_results(path, records, dict(enumerate(match_classes(numbered, classes, path), start=1)))


def listed_sizes(results: Path) -> Path | None:
    """Find the list of image sizes in the folder that `mrqm predict` wrote; None for other results."""
    return results / "images.json" if _is_of_predict(results) else None


def read_or_blank(record: ImageRecord) -> torch.Tensor:
    """Read the image of a record, uint8 (3, H, W); a missing image becomes a grey one of the same aspect ratio."""
    if record.path.is_file():
        return torch.from_numpy(decode(record.path, record.size)).permute(2, 0, 1)
    zoom = min(1.0, BLANK / max(record.size))
    height, width = (max(1, round(side * zoom)) for side in record.size)
    return torch.full((3, height, width), 160, dtype=torch.uint8)


def _is_of_predict(path: Path) -> bool:
    return (path / "images.json").is_file()


def _read_predicted(folder: Path, records: Sequence[ImageRecord], classes: tuple[str, ...]) -> Results:
    """Read the results of `mrqm predict`, with images and classes matched by name."""
    listing = folder / "images.json"
    content = json.loads(listing.read_text())
    labels, notes = _match_classes(listing, content["categories"], classes)
    renumbered = _renumbered(listing, content["images"], records)
    others = {image["id"] for image in content["images"]} - {record.image_id for record in renumbered}
    if others:
        notes.append(f"{listing}: {len(others)} predicted images have no annotations and are skipped")
    results = read_coco_results(folder / "detections.json", renumbered, labels, covers_all=True, other_images=others)
    return replace(results, notes=(*notes, *results.notes))


def _match_classes(
    listing: Path, categories: Sequence[dict[str, Any]], classes: tuple[str, ...]
) -> tuple[dict[Id, int | None], list[str]]:
    """Match the model's categories with the labels by name, with a note where the names differ."""
    names = {category["id"]: category["name"] for category in categories}
    ours, theirs = f"those of the annotations {list(classes)}", f"the model's classes are {list(names.values())}"
    if not set(names.values()) & set(classes):
        raise DataError(f"{listing}: {theirs}, {ours}; they have none in common")
    labels = {number: classes.index(name) if name in classes else None for number, name in names.items()}
    differ = set(names.values()) != set(classes)
    return labels, [f"{listing}: {theirs}, {ours}; they are matched by name"] if differ else []


def _renumbered(
    listing: Path, images: Sequence[dict[str, Any]], records: Sequence[ImageRecord]
) -> tuple[ImageRecord, ...]:
    """Replace the image ids of records by those that `mrqm predict` assigned to files of the same names."""
    stems = Counter(record.path.stem for record in records)
    if repeated := [stem for stem, times in stems.items() if times > 1]:
        raise DataError(
            f"{listing}: several annotated images are named {repeated[0]}; predictions are matched by name: give "
            "unique names"
        )
    ids = {Path(image["file_name"]).stem: image["id"] for image in images}
    missing = [record.path for record in records if record.path.stem not in ids]
    if missing:
        raise DataError(f"{listing}: {len(missing)} annotated images were not predicted, first {missing[0]}")
    return tuple(replace(record, image_id=ids[record.path.stem]) for record in records)
