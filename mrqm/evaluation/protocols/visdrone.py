"""VisDrone-DET's official protocol, rule by rule as in the VisDrone2018-DET-toolkit (MATLAB)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from typing_extensions import override

from mrqm.evaluation.protocols.ignored_regions import outside
from mrqm.evaluation.protocols.matching import IOU_THRESHOLDS, Array, ScoredImage, match, overlaps, pair
from mrqm.evaluation.protocols.protocol import DetectionLimit, Protocol
from mrqm.structures.annotations import IGNORED_REGION, ImageRecord
from mrqm.structures.detections import Detections

LIMITS = (1, 10, 100, 500)


class VisDroneProtocol(Protocol):
    """All-point AP at 500 detections per image, IoU 0.50:0.05:0.95.

    Objects and detections in ignored regions are removed first; then the best detections of an image are
    kept, over all classes together. Objects of other classes are not used: a detection on one is a false positive.
    Unevaluated objects of a class (score 0) excuse detections that lie in them, but count as missed, because the
    toolkit computes recall over all annotations of a class. Its data has no such objects, nor crowds, which excuse
    detections and do not count.

    `AP` and the other plain names are the toolkit's own means over classes, which weight a class by the number of
    images that contain it; `AP_plain` and the like weight all classes equally.
    """

    @property
    def name(self) -> str:
        """`visdrone`."""
        return "visdrone"

    @property
    def version(self) -> str:
        """Version of the rules."""
        return "2"

    @property
    def comparable_with(self) -> str:
        """The official toolkit."""
        return "the VisDrone2018-DET-toolkit: 500 detections per image, classes weighted by the images that have them"

    @property
    def limit(self) -> DetectionLimit:
        """The detections that AP counts."""
        return DetectionLimit(LIMITS[-1], per_class=False)

    @override
    def score(
        self, records: Sequence[ImageRecord], detections: Sequence[Detections], classes: Sequence[str]
    ) -> dict[str, float]:
        """Compute `AP`, `AP50`, `AP75` and `AR@<limit>`, each also with `_plain`, and `AP/<class>`."""
        parts: list[list[_Part]] = [[] for _ in classes]
        images = zip(records, detections, strict=True)
        for record, found in sorted(images, key=lambda image: image[0].path.name):  # as the toolkit lists files
            image = _reduce(pair(record, found), record.size)
            for label in np.union1d(image.truth.labels[image.truth.labels >= 0], image.found.labels).tolist():
                parts[label].append(_match_class(image, label))
        ap = np.array([_average_precision(part) for part in parts])  # (class, IoU)
        recall = {k: np.array([_recall(part, k) for part in parts]).mean(axis=1) for k in LIMITS}
        weights = np.array([sum(p.objects > 0 for p in part) for part in parts])
        of_class = {"AP": ap.mean(axis=1), "AP50": ap[:, 0], "AP75": ap[:, 5]}
        of_class |= {f"AR@{k}": values for k, values in recall.items()}
        metrics = {name: _mean(values, weights) for name, values in of_class.items()}
        metrics |= {f"{name}_plain": _mean(values, weights > 0) for name, values in of_class.items()}
        return metrics | {f"AP/{name}": float(ap[k].mean()) for k, name in enumerate(classes)}


class _Part(NamedTuple):
    """Contribution of one image to one class; detections in descending order of score."""

    scores: Array  # (D,)
    ranks: Array  # (D,) among the detections of all classes in the image
    right: Array  # (10, D)
    wrong: Array  # (10, D); detections excused by an unevaluated object are neither
    objects: int  # including unevaluated ones, without crowds


def _reduce(image: ScoredImage, size: tuple[int, int]) -> ScoredImage:
    """Remove the ignored regions of an image with the boxes inside, then apply the limit."""
    found, truth = image
    regions = truth.boxes_xywh[truth.labels == IGNORED_REGION]
    counted = np.flatnonzero(outside(found.boxes_xywh, regions, size))[: LIMITS[-1]]
    kept = (truth.labels != IGNORED_REGION) & outside(truth.boxes_xywh, regions, size)
    return ScoredImage(found.take(counted), truth.take(kept))


def _match_class(image: ScoredImage, label: int) -> _Part:
    ranks = np.flatnonzero(image.found.labels == label)
    found = image.found.take(ranks)
    truth = image.truth.take(image.truth.labels == label)
    truth = truth.take(np.argsort(~truth.is_object, kind="stable"))  # objects that count come first
    unevaluated = ~truth.is_object
    ious = overlaps(found.boxes_xywh, truth.boxes_xywh, crowd=unevaluated)
    matches = match(ious, IOU_THRESHOLDS, ignored=unevaluated, crowd=unevaluated)
    right = (matches >= 0) & (matches < truth.is_object.sum())
    return _Part(found.scores, ranks, right, matches < 0, int((~truth.crowd).sum()))


def _average_precision(parts: Sequence[_Part]) -> Array:
    """Compute the (10,) area under the decreasing envelope of precision over recall; NaN without objects."""
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
    """Compute the (10,) fraction of the objects matched by the best detections of each image; NaN without objects."""
    total = sum(part.objects for part in parts)
    if not total:
        return np.full(len(IOU_THRESHOLDS), np.nan)
    return np.sum([part.right[:, part.ranks < limit].sum(axis=1) for part in parts], axis=0) / total


def _mean(values: Array, weights: Array) -> float:
    """Average over classes with weights; NaN if no class has objects."""
    there = weights > 0
    return float(np.average(values[there], weights=weights[there])) if there.any() else float("nan")
