"""VisDrone-DET's official protocol, rule by rule as in the VisDrone2018-DET-toolkit (MATLAB)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from mrqm.data.records import IGNORED_REGION, ImageRecord
from mrqm.evaluation.ignored_regions import outside
from mrqm.evaluation.matching import IOU_THRESHOLDS, Array, ScoredImage, match, overlaps, pair
from mrqm.evaluation.protocols import Protocol
from mrqm.predictions import ImageDetections

LIMITS = (1, 10, 100, 500)


class VisDroneProtocol(Protocol):
    """All-point AP at 500 detections per image, IoU 0.50:0.05:0.95.

    Objects and detections that lie in ignored regions are removed first; then the best detections of an image are
    kept, over all classes together. Objects of other classes take no part: a detection on one is a false positive.
    Unevaluated objects of a class (score 0) excuse detections that lie in them and are not to be found; the toolkit
    would count them as missed, but its data has none.

    `AP` and the other plain names are the toolkit's own means over classes, which weigh a class by the number of
    images that contain it; `AP_plain` and the like weigh all classes alike.
    """

    name: ClassVar[str] = "visdrone"

    @property
    def version(self) -> str:
        """The rules' version."""
        return "1"

    def score(
        self, records: Sequence[ImageRecord], detections: Sequence[ImageDetections], classes: Sequence[str]
    ) -> dict[str, float]:
        """`AP`, `AP50`, `AP75` and `AR@<limit>`, each also with `_plain`, and `AP/<class>`."""
        parts: list[list[_Part]] = [[] for _ in classes]
        for record, found in zip(records, detections, strict=True):
            image = _reduce(pair(record, found), record.size)
            for label in np.union1d(image.object_labels, image.detection_labels).tolist():
                parts[label].append(_match_class(image, label))
        ap = np.array([_average_precision(part) for part in parts])  # (class, IoU)
        recall = {k: np.array([_recall(part, k) for part in parts]).mean(axis=1) for k in LIMITS}
        images = np.array([sum(p.objects > 0 for p in part) for part in parts])
        of_class = {"AP": ap.mean(axis=1), "AP50": ap[:, 0], "AP75": ap[:, 5]}
        of_class |= {f"AR@{k}": values for k, values in recall.items()}
        metrics = {name: _mean(values, images) for name, values in of_class.items()}
        metrics |= {f"{name}_plain": _mean(values, images > 0) for name, values in of_class.items()}
        return metrics | {f"AP/{name}": float(ap[k].mean()) for k, name in enumerate(classes)}


class _Part(NamedTuple):
    """One image's contribution to one class; detections by falling score."""

    scores: Array  # (D,)
    ranks: Array  # (D,) among the detections of all classes in the image
    right: Array  # (10, D)
    wrong: Array  # (10, D); what an unevaluated object excuses is neither
    objects: int


def _reduce(image: ScoredImage, size: tuple[int, int]) -> ScoredImage:
    """What is left of an image without its ignored regions and after the limit."""
    regions = image.ignore_boxes[image.ignore_labels == IGNORED_REGION]
    found = np.flatnonzero(outside(image.detection_boxes, regions, size))[: LIMITS[-1]]
    objects = outside(image.object_boxes, regions, size)
    unevaluated = (image.ignore_labels >= 0) & outside(image.ignore_boxes, regions, size)
    return ScoredImage(
        image.detection_boxes[found],
        image.detection_scores[found],
        image.detection_labels[found],
        image.object_boxes[objects],
        image.object_labels[objects],
        image.ignore_boxes[unevaluated],
        image.ignore_labels[unevaluated],
    )


def _match_class(image: ScoredImage, label: int) -> _Part:
    ranks = np.flatnonzero(image.detection_labels == label)
    objects = image.object_boxes[image.object_labels == label]
    unevaluated = image.ignore_boxes[image.ignore_labels == label]
    ignored = np.repeat([False, True], [len(objects), len(unevaluated)])
    ious = overlaps(image.detection_boxes[ranks], np.concatenate([objects, unevaluated]), crowd=ignored)
    matches = match(ious, IOU_THRESHOLDS, ignored, crowd=ignored)
    right = (matches >= 0) & (matches < len(objects))
    return _Part(image.detection_scores[ranks], ranks, right, matches < 0, len(objects))


def _average_precision(parts: Sequence[_Part]) -> Array:
    """(10,) area under the falling envelope of precision over recall; NaN without objects."""
    total = sum(part.objects for part in parts)
    if not total:
        return np.full(len(IOU_THRESHOLDS), np.nan)
    order = np.argsort(-np.concatenate([part.scores for part in parts]), kind="stable")
    right = np.concatenate([part.right for part in parts], axis=1)[:, order].cumsum(axis=1)
    wrong = np.concatenate([part.wrong for part in parts], axis=1)[:, order].cumsum(axis=1)
    precision = right / np.maximum(1, right + wrong)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (np.diff(right / total, axis=1, prepend=0) * envelope).sum(axis=1)


def _recall(parts: Sequence[_Part], limit: int) -> Array:
    """(10,) share of objects found by the best detections of each image; NaN without objects."""
    total = sum(part.objects for part in parts)
    if not total:
        return np.full(len(IOU_THRESHOLDS), np.nan)
    return np.sum([part.right[:, part.ranks < limit].sum(axis=1) for part in parts], axis=0) / total


def _mean(values: Array, weights: Array) -> float:
    """Weighted mean over classes; NaN if no class has objects."""
    there = weights > 0
    return float(np.average(values[there], weights=weights[there])) if there.any() else float("nan")
