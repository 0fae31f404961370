"""Precision over recall, and recall over object size, at an IoU of 0.5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrqm.evaluation.analysis.errors import interpolated_precision
from mrqm.evaluation.analysis.outcomes import RIGHT, Outcomes
from mrqm.evaluation.protocols.matching import Array

SIZE_EDGES = np.array([0, 4, 6, 8, 10, 12, 16, 20, 26, 32, 48, 64, 96, 128, 192, np.inf])
"""Edges of the size bins of recall: square roots of the area in px."""


@dataclass(frozen=True)
class RecallBySize:
    """Recall of objects with edges[i] <= size < edges[i + 1].

    Attributes:
        edges: (B + 1,) square roots of the area in px.
        recall: (B,) fraction of the objects detected at any score; NaN without objects.
        objects: (B,) number of objects.
    """

    edges: Array
    recall: Array
    objects: Array


def precision_over_recall(outcomes: Outcomes) -> Array:
    """Interpolate the precision of each class, (C, 101), at recalls 0, 0.01, …, 1; NaN for classes without objects."""
    curves = np.full((outcomes.num_classes, 101), np.nan)
    for label in range(outcomes.num_classes):
        here, total = outcomes.labels == label, int((outcomes.object_labels == label).sum())
        if total:
            right = outcomes.kinds[here] == RIGHT
            curves[label] = interpolated_precision(outcomes.scores[here], right, total)
    return curves


def recall_by_size(outcomes: Outcomes, edges: Array = SIZE_EDGES) -> RecallBySize:
    """Compute recall per size bin over all classes.

    Args:
        outcomes: outcomes of all detections and objects.
        edges: (B + 1,) edges of the bins, square roots of the area in px.

    Returns:
        The recall of each bin.
    """
    bins = np.searchsorted(edges, outcomes.object_sizes, side="right") - 1
    objects = np.bincount(bins, minlength=len(edges) - 1)
    found = np.bincount(bins, weights=outcomes.found, minlength=len(edges) - 1)
    recall = np.divide(found, objects, out=np.full(len(objects), np.nan), where=objects > 0)
    return RecallBySize(edges, recall, objects)
