"""Anybody's result files as detections beside annotations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mrqm.coco_results import read_coco_results
from mrqm.config import Config
from mrqm.data.coco import read_category_labels
from mrqm.data.coco_json import Id
from mrqm.data.records import DataError, ImageRecord
from mrqm.predictions import Results
from mrqm.text_results import read_text_results


def read_result_files(path: Path, records: Sequence[ImageRecord], classes: tuple[str, ...], config: Config) -> Results:
    """Read results of any form.

    Args:
        path: a COCO result file, a folder of VisDrone or YOLO texts, or the folder that `mrqm predict` wrote.
        records: the annotated images.
        classes: names in label order.
        config: whose `data` names the annotations.

    Raises:
        DataError: the results do not parse or are not of these annotations.
    """
    by_number: dict[Id, int | None] = {number: label for label, number in enumerate(range(1, len(classes) + 1))}
    if path.is_dir() and (path / "images.json").is_file():
        renumbered = _renumbered(path / "images.json", records, classes)
        return read_coco_results(path / "detections.json", renumbered, by_number)
    if path.is_dir():
        return read_text_results(path, records, classes)
    if config.data.format == "coco":
        by_number = read_category_labels(config.data.folder / config.data.val, classes)
    return read_coco_results(path, records, by_number)


def _renumbered(listing: Path, records: Sequence[ImageRecord], classes: tuple[str, ...]) -> tuple[ImageRecord, ...]:
    """Records with the image ids that `mrqm predict` gave to files of their names."""
    content = json.loads(listing.read_text())
    found = tuple(category["name"] for category in content["categories"])
    if found != classes:
        raise DataError(f"{listing}: the model's classes are {list(found)}, those of the annotations {list(classes)}")
    stems = Counter(record.path.stem for record in records)
    if repeated := [stem for stem, times in stems.items() if times > 1]:
        raise DataError(f"{listing}: several annotated images are named {repeated[0]}; predictions go by that name")
    ids = {Path(image["file_name"]).stem: image["id"] for image in content["images"]}
    missing = [record.path for record in records if record.path.stem not in ids]
    if missing:
        raise DataError(f"{listing}: {len(missing)} annotated images were not predicted, first {missing[0]}")
    return tuple(replace(record, image_id=ids[record.path.stem]) for record in records)
