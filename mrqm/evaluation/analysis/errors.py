"""Why AP is lost: the errors of TIDE (Bolya et al., ECCV 2020), per class and per size of object.

Every wrong detection has one error, by its overlap with the objects (0.5 is enough, under 0.1 is nothing):

    Loc   an object of its class, badly placed          Cls   an object of another class, well placed
    Dupe  an object that a better detection has         Bkg   nothing there
    Both  badly placed, and of another class            Miss  an object that no detection could be mended to find

What an error costs is the AP50 that mending it alone would give: Loc and Cls become right (once per object), Dupe,
Bkg and Both vanish, a missed object need not be found. FP removes all wrong detections, FN all objects not found;
they overlap with the others, and the costs need not add up. A class of which nothing would be left to find has an AP50
of 0, as in tidecv: misses cost it nothing.
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
"""Name → (least, less than) square root of the box's area in px."""

RECALL_POINTS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ErrorAnalysis:
    """Costs of errors; NaN where a class has no objects of that size.

    Attributes:
        ap50: (1 + S, C): over all sizes, then of each of `SIZE_BINS`; C classes.
        lost: (1 + S, C, 8) AP50 that mending each of `ERRORS` would give.
        counts: (1 + S, C, 8) how often each error occurs.
        objects: (1 + S, C) how many there are to find.
    """

    ap50: Array
    lost: Array
    counts: Array
    objects: Array

    @property
    def with_objects(self) -> Array:
        """(1 + S,) classes that have objects."""
        return (self.objects > 0).sum(axis=1)

    @property
    def without_find(self) -> Array:
        """(1 + S,) classes that have objects, none of which is found: FN costs them nothing, nor often does Miss."""
        return ((self.objects > 0) & (self.counts[..., ERRORS.index("FN")] == self.objects)).sum(axis=1)

    @property
    def mean_ap50(self) -> Array:
        """(1 + S,) over the classes that have objects."""
        return _mean_over_classes(self.ap50)

    @property
    def mean_lost(self) -> Array:
        """(1 + S, 8) over the classes that have objects."""
        return _mean_over_classes(self.lost)


def decompose(outcomes: Outcomes) -> ErrorAnalysis:
    """Cost of each error over all sizes, and within the objects of each size bin and the detections nearest to them."""
    parts = [outcomes, *(outcomes.of_size(least, below) for least, below in SIZE_BINS.values())]
    tallies = [[_decompose_class(part, label) for label in range(outcomes.num_classes)] for part in parts]
    ap50, lost, counts = (
        np.array([[tally[i] for tally in part] for part in tallies], dtype=np.float64) for i in range(3)
    )
    objects = np.array([np.bincount(part.object_labels, minlength=part.num_classes) for part in parts])
    return ErrorAnalysis(ap50, lost, counts.astype(np.int64), objects)


def interpolated_precision(scores: Array, right: Array, objects: int) -> Array:
    """Highest precision at each of 101 recalls or above, as COCO reads it.

    Args:
        scores: (D,).
        right: (D,) bool.
        objects: how many there are to find.

    Returns:
        (101,); all 0 where nothing is to be found.
    """
    if not objects:
        return np.zeros(len(RECALL_POINTS))
    order = np.argsort(-scores, kind="stable")
    hits = right[order].cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return envelope[np.searchsorted(hits / objects, RECALL_POINTS, side="left")]


def _decompose_class(outcomes: Outcomes, label: int) -> tuple[float, Sequence[float], Sequence[int]]:
    """AP50 of one class, what each error costs it, and how many there are."""
    here = outcomes.labels == label
    kinds = outcomes.kinds[here]
    of_class = outcomes.object_labels == label
    total, unfound = int(of_class.sum()), int((of_class & ~outcomes.found).sum())
    missed = int((of_class & outcomes.missed).sum())
    counts = [*(int((kinds == kind).sum()) for kind in _KINDS), missed, int((kinds != RIGHT).sum()), unfound]
    if not total:
        return np.nan, [np.nan] * len(ERRORS), counts

    def average(kept: Array, mended: Array, objects: int) -> float:
        scores = np.concatenate([outcomes.scores[kept], outcomes.scores[mended]])
        right = np.concatenate([outcomes.kinds[kept] == RIGHT, np.ones(mended.sum(), dtype=bool)])
        return float(interpolated_precision(scores, right, objects).mean())

    none = np.zeros(len(here), dtype=bool)
    mendable = outcomes.mendable & (outcomes.target_labels == label)
    fixed = [average(here & (outcomes.kinds != kind), mendable & (outcomes.kinds == kind), total) for kind in _KINDS]
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
