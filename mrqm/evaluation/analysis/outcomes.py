"""Outcome of every detection and every object at an IoU of 0.5, as input of error analysis and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrqm.evaluation.protocols.matching import Array, ScoredImage, match, overlaps, pair
from mrqm.evaluation.protocols.protocol import DetectionLimit
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import Detections
from mrqm.structures.ground_truth import GroundTruth

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1
RIGHT, CLASS, LOCATION, BOTH, DUPLICATE, BACKGROUND = range(6)


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of the D detections that count and of the N objects.

    Attributes:
        num_classes: number of classes C of the data.
        scores: (D,) scores.
        labels: (D,) labels.
        kinds: (D,) `RIGHT` or the error.
        sizes: (D,) square root of the area in px of the object that the detection matches, duplicates or would match
            after a fix; of the one it overlaps most where there is none; its own where it overlaps no object.
        target_labels: (D,) class of that object; its own where it overlaps no object.
        fixable: (D,) bool, True for wrong detections that become right when their error is fixed, at most one per
            object.
        object_labels: (N,) labels.
        object_sizes: (N,) square root of the area in px.
        found: (N,) bool, True for objects matched by a detection of their class.
        missed: (N,) bool, True for objects that no detection matches, not even after a fix.
    """

    num_classes: int
    scores: Array
    labels: Array
    kinds: Array
    sizes: Array
    target_labels: Array
    fixable: Array
    object_labels: Array
    object_sizes: Array
    found: Array
    missed: Array

    def of_size(self, least: float, below: float) -> Outcomes:
        """Select the objects of a size range and the detections that belong to them.

        Args:
            least: least size, inclusive: square root of the area in px.
            below: greatest size, exclusive.

        Returns:
            The outcomes of that size.
        """
        d = (self.sizes >= least) & (self.sizes < below)
        n = (self.object_sizes >= least) & (self.object_sizes < below)
        detections = (self.scores, self.labels, self.kinds, self.sizes, self.target_labels, self.fixable)
        objects = (self.object_labels, self.object_sizes, self.found, self.missed)
        return Outcomes(self.num_classes, *(column[d] for column in detections), *(column[n] for column in objects))


def find_outcomes(
    records: Sequence[ImageRecord],
    detections: Sequence[Detections],
    num_classes: int,
    limit: DetectionLimit | None = None,
) -> Outcomes:
    """Match the best detections of each image and classify the others' errors.

    A wrong detection of which half lies in an ignored box that concerns its class does not count.

    Args:
        records: annotated images.
        detections: detections in each image.
        num_classes: number of classes C of the data.
        limit: limit of the protocol whose scores are explained; None: every detection counts.

    Returns:
        The outcomes over all images.

    Raises:
        ValueError: records and detections differ in number.
    """
    images = [_find_image_outcomes(pair(r, d), limit) for r, d in zip(records, detections, strict=True)]
    empty = [np.zeros(0, dtype) for dtype in ("f8", "i8", "i8", "f8", "i8", "?", "i8", "f8", "?", "?")]
    return Outcomes(num_classes, *(np.concatenate(columns) for columns in zip(empty, *images, strict=True)))


def _find_image_outcomes(image: ScoredImage, limit: DetectionLimit | None) -> tuple[Array, ...]:
    """Compute the columns of `Outcomes` for one image."""
    detections = image.found if limit is None else image.found.take(limit.keep(image.found.labels))
    boxes, scores, labels = detections.boxes_xywh, detections.scores, detections.labels
    objects = image.truth.take(image.truth.is_object)
    ious = overlaps(boxes, objects.boxes_xywh, np.zeros(len(objects), dtype=bool))
    same = labels[:, None] == objects.labels
    matches = _matches(ious * same)
    found = np.zeros(len(objects), dtype=bool)
    found[matches[matches >= 0]] = True
    kinds, targets = _explain(ious, same, found, matches)
    counts = (kinds == RIGHT) | ~_excused(image.truth, boxes, labels)
    boxes, scores, labels, kinds, targets = (column[counts] for column in (boxes, scores, labels, kinds, targets))

    fixable = np.zeros(len(kinds), dtype=bool)
    candidates = np.flatnonzero(np.isin(kinds, (CLASS, LOCATION)))
    candidates = candidates[~found[targets[candidates]]]
    wanted, first = np.unique(targets[candidates], return_index=True)  # the first has the highest score
    fixable[candidates[first]] = True
    missed = ~found
    missed[wanted] = False

    object_sizes, sizes, target_labels = _sizes(objects.boxes_xywh), _sizes(boxes), labels.copy()
    aimed = targets >= 0
    sizes[aimed], target_labels[aimed] = object_sizes[targets[aimed]], objects.labels[targets[aimed]]
    return scores, labels, kinds, sizes, target_labels, fixable, objects.labels, object_sizes, found, missed


def _matches(ious: Array) -> Array:
    """Match detections to objects, (D,) index or -1; `ious` (D, N) is 0 between classes."""
    plain = np.zeros(ious.shape[1], dtype=bool)
    return match(ious, np.array([FOREGROUND_IOU]), ignored=plain, crowd=plain)[0]


def _explain(ious: Array, same: Array, found: Array, matches: Array) -> tuple[Array, Array]:
    """Classify the detections, (D,) kinds, with the (D,) objects concerned, -1 for none.

    Errors are tried in TIDE's order: Loc, Cls, Dupe, Bkg, and Both.
    """
    kinds, targets = np.full(len(ious), BACKGROUND), np.full(len(ious), -1)
    if ious.shape[1]:
        of_class, of_others, taken = ious * same, ious * ~same, ious * (same & found)
        best = of_class.max(axis=1)
        choices = [
            (LOCATION, (best >= BACKGROUND_IOU) & (best < FOREGROUND_IOU), of_class),
            (CLASS, of_others.max(axis=1) >= FOREGROUND_IOU, of_others),
            (DUPLICATE, taken.max(axis=1) >= FOREGROUND_IOU, taken),
            (BOTH, ious.max(axis=1) > BACKGROUND_IOU, ious),
        ]
        for kind, applies, measure in reversed(choices):  # the first that applies is written last
            kinds[applies], targets[applies] = kind, measure[applies].argmax(axis=1)
    right = matches >= 0
    kinds[right], targets[right] = RIGHT, matches[right]
    return kinds, targets


def _excused(truth: GroundTruth, boxes: Array, labels: Array) -> Array:
    """Mark the detections (D,) that lie in an ignored box of their class or of none."""
    ignored = truth.take(~truth.is_object)
    inside = overlaps(boxes, ignored.boxes_xywh, np.ones(len(ignored), dtype=bool)) >= FOREGROUND_IOU
    concerned = (labels[:, None] == ignored.labels) | (ignored.labels < 0)
    return (inside & concerned).any(axis=1)


def _sizes(xywh: Array) -> Array:
    return np.sqrt((xywh[:, 2] * xywh[:, 3]).clip(min=0))
