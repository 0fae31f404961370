"""Causes of lost AP: the errors of TIDE (Bolya et al., ECCV 2020), per class and per object size.

Every wrong detection has one error, by its overlap with the objects (foreground from 0.5, background up to 0.1):

    Loc   an object of its class, badly placed          Cls   an object of another class, well placed
    Dupe  an object that a better detection has         Bkg   no object
    Both  badly placed, and of another class            Miss  an object that no fixed detection would match

The cost of an error is the AP50 that fixing it alone would give: Loc and Cls become right (once per object), Dupe,
Bkg and Both are removed, a missed object is not counted. FP removes all wrong detections, FN all undetected objects;
they overlap with the others, and the costs need not add up. A class without objects left after a fix has an AP50
of 0, as in tidecv: misses then cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrqm.evaluation.analysis.outcomes import BACKGROUND, BOTH, CLASS, DUPLICATE, LOCATION, RIGHT, Outcomes
from mrqm.evaluation.protocols.matching import Array

ERRORS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FP", "FN")
_KINDS = (CLASS, LOCATION, BOTH, DUPLICATE, BACKGROUND)  # in the order of ERRORS
SIZE_BINS = {"< 12": (0, 12), "12-20": (12, 20), "20-32": (20, 32), "32-96": (32, 96), "> 96": (96, np.inf)}
"""Size bins: name → (least, less than) square root of the box's area in px."""

RECALL_POINTS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ErrorAnalysis:
    """Costs of errors; NaN where a class has no objects of that size.

    Attributes:
        ap50: (1 + S, C) AP50 over all sizes, then in each of `SIZE_BINS`, of C classes.
        lost: (1 + S, C, 8) AP50 that fixing each of `ERRORS` would give.
        counts: (1 + S, C, 8) number of occurrences of each error.
        objects: (1 + S, C) number of objects.
    """

    ap50: Array
    lost: Array
    counts: Array
    objects: Array

    @property
    def with_objects(self) -> Array:
        """(1 + S,) number of classes that have objects."""
        return (self.objects > 0).sum(axis=1)

    @property
    def without_find(self) -> Array:
        """(1 + S,) number of classes with objects of which none is detected; FN, and often Miss, costs them nothing."""
        return ((self.objects > 0) & (self.counts[..., ERRORS.index("FN")] == self.objects)).sum(axis=1)

    @property
    def mean_ap50(self) -> Array:
        """(1 + S,) mean AP50 over the classes that have objects."""
        return _mean_over_classes(self.ap50)

    @property
    def mean_lost(self) -> Array:
        """(1 + S, 8) mean cost over the classes that have objects."""
        return _mean_over_classes(self.lost)


def decompose(outcomes: Outcomes) -> ErrorAnalysis:
    """Compute the cost of each error over all sizes, and per size bin of objects with the nearest detections."""
    parts = [outcomes, *(outcomes.of_size(least, below) for least, below in SIZE_BINS.values())]
    tallies = [[_decompose_class(part, label) for label in range(outcomes.num_classes)] for part in parts]
    ap50, lost, counts = (
        np.array([[tally[i] for tally in part] for part in tallies], dtype=np.float64) for i in range(3)
    )
    objects = np.array([np.bincount(part.object_labels, minlength=part.num_classes) for part in parts])
    return ErrorAnalysis(ap50, lost, counts.astype(np.int64), objects)


def interpolated_precision(scores: Array, right: Array, objects: int) -> Array:
    """Compute the highest precision at each of 101 recalls or above, as COCO does.

    Args:
        scores: (D,) scores.
        right: (D,) bool, True for true positives.
        objects: number of objects.

    Returns:
        (101,) precision; all 0 without objects.
    """
    if not objects:
        return np.zeros(len(RECALL_POINTS))
    order = np.argsort(-scores, kind="stable")
    hits = right[order].cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return envelope[np.searchsorted(hits / objects, RECALL_POINTS, side="left")]


def _decompose_class(outcomes: Outcomes, label: int) -> tuple[float, Sequence[float], Sequence[int]]:
    """Compute the AP50 of one class, the cost of each error and the number of its occurrences."""
    here = outcomes.labels == label
    kinds = outcomes.kinds[here]
    of_class = outcomes.object_labels == label
    total, unfound = int(of_class.sum()), int((of_class & ~outcomes.found).sum())
    missed = int((of_class & outcomes.missed).sum())
    counts = [*(int((kinds == kind).sum()) for kind in _KINDS), missed, int((kinds != RIGHT).sum()), unfound]
    if not total:
        return np.nan, [np.nan] * len(ERRORS), counts

    def average(kept: Array, corrected: Array, objects: int) -> float:
        scores = np.concatenate([outcomes.scores[kept], outcomes.scores[corrected]])
        right = np.concatenate([outcomes.kinds[kept] == RIGHT, np.ones(corrected.sum(), dtype=bool)])
        return float(interpolated_precision(scores, right, objects).mean())

    none = np.zeros(len(here), dtype=bool)
    fixable = outcomes.fixable & (outcomes.target_labels == label)
    fixed = [average(here & (outcomes.kinds != kind), fixable & (outcomes.kinds == kind), total) for kind in _KINDS]
    fixed += [
        average(here, none, total - missed),
        average(here & (outcomes.kinds == RIGHT), none, total),
        average(here, none, total - unfound),
    ]
    ap50 = average(here, none, total)
    return ap50, [value - ap50 for value in fixed], counts


def _mean_over_classes(values: Array) -> Array:
    there = ~np.isnan(values)
    counts = there.sum(axis=1)
    sums = np.where(there, values, 0).sum(axis=1)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
