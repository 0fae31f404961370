"""Detections in memory, and result files as benchmarks take them.

COCO      one json:              [{"image_id": 7, "category_id": 1, "bbox": [left, top, width, height], "score": 0.9}]
VisDrone  one text per image:    left,top,width,height,score,category,-1,-1

They are read by `mrqm.data.results.coco` and `mrqm.data.results.text`.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mrqm.data.formats.class_names import relabel
from mrqm.data.formats.visdrone import visdrone_numbers
from mrqm.files import write_whole
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import Detections

DECIMALS = 4  # of px in result files


@dataclass(frozen=True)
class Results:
    """Detections read from result files.

    Attributes:
        detections: detections in each annotated image, in descending order of score; equal scores stay in the file's
            order.
        as_written: detections in the order of the rows, where a benchmark counts the first ones and the rows are not
            sorted by score; else None.
        notes: sentences on the interpretation of the scores.
    """

    detections: tuple[Detections, ...]
    as_written: tuple[Detections, ...] | None = None
    notes: tuple[str, ...] = ()

    def relabelled(self, mapping: Sequence[int]) -> Results:
        """Replace labels by those of a mapping, which has the new label of each."""

        def change(found: tuple[Detections, ...]) -> tuple[Detections, ...]:
            return tuple(replace(each, labels=relabel(each.labels, mapping)) for each in found)

        written = None if self.as_written is None else change(self.as_written)
        return replace(self, detections=change(self.detections), as_written=written)


def note_uncovered(source: Path, records: Sequence[ImageRecord], covered: Container[int]) -> tuple[str, ...]:
    """Note the images with objects that results do not cover, if there are any.

    Args:
        source: file or folder of the results.
        records: annotated images.
        covered: positions of the records that have entries in the results.

    Returns:
        At most one sentence.
    """
    missed = [r for index, r in enumerate(records) if index not in covered and r.truth.is_object.any()]
    if not missed:
        return ()
    objects = sum(int(record.truth.is_object.sum()) for record in missed)
    return (
        f"{source}: has no entry for {len(missed)} of {len(records)} images, first {missed[0].path.name}; "
        f"their {objects} objects count as missed",
    )


def write_coco_results(path: Path, detections: Mapping[int, Detections], category_ids: Sequence[int]) -> None:
    """Write a COCO result file.

    Args:
        path: json file, which is replaced if it exists.
        detections: detections by image_id.
        category_ids: number of each label's category.
    """
    results = [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for image_id, found in detections.items()
        for box, score, label in _rows(found)
    ]
    write_whole(path, json.dumps(results))


def write_visdrone_results(folder: Path, detections: Mapping[str, Detections], classes: Sequence[str]) -> None:
    """Write VisDrone result texts, with rows in descending order of score as the toolkit requires.

    Args:
        folder: destination, which is created; texts of the same names are replaced.
        detections: detections by the image file's stem; an image without detections gets an empty text.
        classes: class names in label order; their numbers are those of `visdrone_numbers`.
    """
    numbers = visdrone_numbers(classes)
    folder.mkdir(parents=True, exist_ok=True)
    for stem, found in detections.items():
        order = np.argsort(-found.scores, kind="stable")
        lines = [_line(box, score, numbers[label]) for box, score, label in _rows(found.take(order))]
        (folder / f"{stem}.txt").write_text("".join(lines))


def _rows(found: Detections) -> Iterator[tuple[list[float], float, int]]:
    """Yield box, score and label of each detection."""
    return zip(found.boxes_xywh.round(DECIMALS).tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)


def _line(xywh: list[float], score: float, category: int) -> str:
    return ",".join([*(f"{value:.12g}" for value in xywh), str(score), str(category), "-1", "-1"]) + "\n"
