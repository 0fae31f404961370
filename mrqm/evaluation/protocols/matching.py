"""Greedy matching of detections to objects, as in COCO's and VisDrone's tools, and the form of an image for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask

from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import Detections
from mrqm.structures.ground_truth import GroundTruth

Array = NDArray[Any]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


class ScoredImage(NamedTuple):
    """One image's detections, in descending order of score, and its ground truth."""

    found: Detections
    truth: GroundTruth


def pair(record: ImageRecord, detections: Detections) -> ScoredImage:
    """Combine an image's annotations and detections for scoring.

    Args:
        record: annotated image.
        detections: detections in it, in any order.

    Returns:
        The image with detections in descending order of score.
    """
    return ScoredImage(detections.by_falling_score(), record.truth)


def overlaps(found: Array, objects: Array, crowd: Array) -> Array:
    """Compute the IoU of xywh boxes.

    Args:
        found: (D, 4) detections in px.
        objects: (G, 4) objects in px.
        crowd: (G,) bool, True for objects compared by the fraction of the detection that lies inside instead.

    Returns:
        (D, G) overlaps in [0, 1].
    """
    if not len(found) or not len(objects):
        return np.zeros((len(found), len(objects)))
    in_rows = (np.ascontiguousarray(boxes, dtype=np.float64) for boxes in (found, objects))  # required by pycocotools
    return np.asarray(mask.iou(*in_rows, crowd.astype(np.uint8)))


def match(ious: Array, thresholds: Array, ignored: Array, crowd: Array) -> Array:
    """Match detections to objects greedily, by descending score; of equal overlaps the later object wins.

    Only pairs that overlap enough are compared, which is many times faster than pycocotools in dense images.

    Args:
        ious: (D, G) overlaps, detections in descending order of score, ignored objects last.
        thresholds: (T,) ascending IoU thresholds.
        ignored: (G,) bool, True for objects that do not count.
        crowd: (G,) bool, True for objects that any number of detections may match.

    Returns:
        (T, D) index of the object that each detection matches, -1 for none.
    """
    candidates: dict[int, list[tuple[int, float]]] = {}
    for d, g in zip(*(indices.tolist() for indices in np.nonzero(ious >= thresholds[0])), strict=True):
        candidates.setdefault(d, []).append((g, ious.item(d, g)))
    is_ignored, is_crowd = ignored.tolist(), crowd.tolist()
    matches = np.full((len(thresholds), len(ious)), -1)
    for t, threshold in enumerate(np.minimum(thresholds, 1 - 1e-10).tolist()):
        taken: set[int] = set()
        for d, overlaps in candidates.items():
            best, best_iou = -1, threshold
            for g, iou in overlaps:
                if iou < best_iou or (g in taken and not is_crowd[g]):
                    continue
                if best >= 0 and is_ignored[g] and not is_ignored[best]:
                    break  # an object that counts is preferred to any ignored one
                best, best_iou = g, iou
            if best >= 0:
                matches[t, d] = best
                taken.add(best)
    return matches
