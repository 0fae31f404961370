"""Precision over recall, and recall over the size of objects, at an IoU of 0.5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrqm.evaluation.analysis.errors import interpolated_precision
from mrqm.evaluation.analysis.outcomes import RIGHT, Outcomes
from mrqm.evaluation.protocols.matching import Array

SIZE_EDGES = np.array([0, 4, 6, 8, 10, 12, 16, 20, 26, 32, 48, 64, 96, 128, 192, np.inf])
"""Square roots of the area in px between which recall is measured."""


@dataclass(frozen=True)
class RecallBySize:
    """Recall of objects with edges[i] <= size < edges[i + 1].

    Attributes:
        edges: (B + 1,) square roots of the area in px.
        recall: (B,) share found at any score; NaN where there are no objects.
        objects: (B,) how many there are.
    """

    edges: Array
    recall: Array
    objects: Array


def precision_over_recall(outcomes: Outcomes) -> Array:
    """(C, 101) interpolated precision at recalls 0, 0.01, …, 1; NaN for classes without objects."""
    curves = np.full((outcomes.num_classes, 101), np.nan)
    for label in range(outcomes.num_classes):
        here, total = outcomes.labels == label, int((outcomes.object_labels == label).sum())
        if total:
            right = outcomes.kinds[here] == RIGHT
            curves[label] = interpolated_precision(outcomes.scores[here], right, total)
    return curves


def recall_by_size(outcomes: Outcomes, edges: Array = SIZE_EDGES) -> RecallBySize:
    """Recall between the edges, over all classes."""
    bins = np.searchsorted(edges, outcomes.object_sizes, side="right") - 1
    objects = np.bincount(bins, minlength=len(edges) - 1)
    found = np.bincount(bins, weights=outcomes.found, minlength=len(edges) - 1)
    recall = np.divide(found, objects, out=np.full(len(objects), np.nan), where=objects > 0)
    return RecallBySize(edges, recall, objects)
