"""Adapter of pycocotools: precision and recall for any area ranges and limits of detections.

No other module imports its classes. One of their methods, `COCOeval.evaluateImg`, is replaced: it compares every pair
of boxes in Python. A contract test names what another version lacks.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrqm.evaluation.protocols.matching import Array, ScoredImage, match

AreaRange = tuple[float, float]


class Curves(NamedTuple):
    """Precision and recall as pycocotools accumulates them; -1 where a class has no object in an area range."""

    precision: Array  # (10 IoU, 101 recall points, class, area range, limit)
    recall: Array  # (10 IoU, class, area range, limit)

    def headline(self, area: int = 0, limit: int = 0) -> dict[str, float]:
        """Average precision over classes at several IoU thresholds.

        Args:
            area: index of the area range.
            limit: index of the limit of detections.

        Returns:
            `AP`, `AP50` and `AP75`; NaN without objects.
        """
        precision = self.precision[..., area, limit]
        return {"AP": _mean(precision), "AP50": _mean(precision[0]), "AP75": _mean(precision[5])}

    def ap(self, area: int, limit: int) -> float:
        """Average precision over IoU thresholds and classes.

        Args:
            area: index of the area range.
            limit: index of the limit of detections.

        Returns:
            The AP in [0, 1]; NaN without objects.
        """
        return _mean(self.precision[..., area, limit])

    def ar(self, area: int, limit: int) -> float:
        """Average recall over IoU thresholds and classes.

        Args:
            area: index of the area range.
            limit: index of the limit of detections.

        Returns:
            The AR in [0, 1]; NaN without objects.
        """
        return _mean(self.recall[..., area, limit])

    def ap_of_classes(self, classes: Sequence[str], area: int, limit: int) -> dict[str, float]:
        """Average precision of every class over IoU thresholds.

        Args:
            classes: class names in label order.
            area: index of the area range.
            limit: index of the limit of detections.

        Returns:
            `AP/<class>` of every class; NaN for classes without objects.
        """
        return {f"AP/{name}": _mean(self.precision[:, :, k, area, limit]) for k, name in enumerate(classes)}


def accumulate(
    images: Sequence[ScoredImage], classes: Sequence[str], areas: Sequence[AreaRange], limits: Sequence[int]
) -> Curves:
    """Run pycocotools.

    IoU 0.50:0.05:0.95, 101 recall points, matching per image and class. A detection of which half or more lies in a
    crowd counts neither way, nor does one detection of an ignored object. Annotations without a class count as
    annotations of every class.

    Args:
        images: images to score; of equal scores, the earlier image's rank first.
        classes: class names in label order.
        areas: (least, most) area in px², both inclusive.
        limits: ascending numbers of detections per image and class that count.

    Returns:
        Precision and recall for every area range and limit.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = _SparseCOCOeval(
            _coco(len(images), classes, _objects(images, len(classes))),
            _coco(len(images), classes, _detections(images)),
        )
        evaluation.params.maxDets = list(limits)
        evaluation.params.areaRng = list(areas)
        evaluation.params.areaRngLbl = [str(area) for area in areas]
        evaluation.evaluate()
        evaluation.accumulate()
    return Curves(evaluation.eval["precision"], evaluation.eval["recall"])


class _SparseCOCOeval(COCOeval):
    """COCOeval that compares only overlapping pairs: the same matches, many times faster in dense images."""

    def __init__(self, objects: COCO, detections: COCO) -> None:
        super().__init__(objects, detections, "bbox")
        self._objects, self._found = _by_image_and_class(objects), _by_image_and_class(detections)

    def evaluateImg(  # noqa: N802 - pycocotools' name
        self, image_id: int, label: int, area: Sequence[float], limit: int
    ) -> dict[str, Any] | None:
        """Match one image's detections of one class; return the entries that `accumulate` reads, by score."""
        objects, found = self._objects[image_id, label], self._found[image_id, label]
        if not objects and not found:
            return None
        found = sorted(found, key=lambda d: -d["score"])[:limit]  # stable, as in computeIoU
        least, most = area
        ignored = np.array([o["passed_over"] or not least <= o["area"] <= most for o in objects], dtype=bool)
        order = np.argsort(ignored, kind="stable")  # objects that count come first
        ignored, crowd = ignored[order], np.array([o["iscrowd"] for o in objects], dtype=bool)[order]
        ious = np.asarray(self.ious[image_id, label]).reshape(len(found), len(objects))[:, order]
        matches = match(ious, self.params.iouThrs, ignored, crowd)
        matched = matches >= 0
        outside = np.array([not least <= d["area"] <= most for d in found], dtype=bool)
        costs_nothing = ~matched & outside
        costs_nothing[matched] = ignored[matches[matched]]
        return {
            "dtScores": [d["score"] for d in found],
            "dtMatches": matched,
            "dtIgnore": costs_nothing,
            "gtIgnore": ignored,
        }


def _coco(images: int, classes: Sequence[str], annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image_id} for image_id in range(images)],
        "categories": [{"id": label, "name": name} for label, name in enumerate(classes)],
        # ids from 1: pycocotools treats a match with id 0 as no match
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, start=1)],
    }
    coco.createIndex()
    return coco


def _by_image_and_class(coco: COCO) -> defaultdict[tuple[int, int], list[dict[str, Any]]]:
    """Group annotations by image and class, in their order, as COCOeval does."""
    grouped = defaultdict(list)
    for annotation in coco.dataset["annotations"]:
        grouped[annotation["image_id"], annotation["category_id"]].append(annotation)
    return grouped


def _objects(images: Sequence[ScoredImage], num_classes: int) -> list[dict[str, Any]]:
    """Convert annotations for pycocotools; it overwrites their key `ignore`, hence `passed_over`."""
    annotations = []
    for image_id, (_, truth) in enumerate(images):
        columns = (truth.boxes_xywh, truth.labels, truth.areas, truth.crowd.astype(int), ~truth.is_object)
        for box, label, area, crowd, passed_over in zip(*(column.tolist() for column in columns), strict=True):
            for category in [label] if label >= 0 else range(num_classes):
                annotations.append(
                    {"image_id": image_id, "category_id": category, "bbox": box, "area": area}
                    | {"iscrowd": crowd, "passed_over": passed_over}
                )
    return annotations


def _detections(images: Sequence[ScoredImage]) -> list[dict[str, Any]]:
    return [
        {"image_id": image_id, "category_id": label, "bbox": box, "area": box[2] * box[3], "score": score}
        for image_id, (found, _) in enumerate(images)
        for box, score, label in zip(
            found.boxes_xywh.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]


def _mean(values: Array) -> float:
    """Average the entries that pycocotools filled; -1 marks classes and areas without objects."""
    filled = values[values > -1]
    return float(filled.mean()) if filled.size else float("nan")
