"""What a reader should know of figures that come from anybody's result files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mrqm.data.results.writer import Results
from mrqm.evaluation.analysis.diagnosis import Diagnosis, diagnose
from mrqm.evaluation.protocols.file_order import score_as_written
from mrqm.structures.annotations import AnnotationSet

NEAR_ZERO = 0.05
"""AP50 of every protocol below which results are suspected to be read wrongly."""
REPEATED = 0.01
"""Share of detections that are there twice from which on it is said."""


def note_doubts(path: Path, results: Results) -> tuple[str, ...]:
    """Note scores that are no shares of 1, and detections that are listed twice."""
    scores = np.concatenate([found.scores for found in results.detections])
    if not len(scores):
        return (f"{path}: holds no detection",)
    notes = []
    if scores.max() > 1 or scores.min() < 0:
        percent = "percentages? " if scores.min() >= 0 and scores.max() <= 100 else ""
        notes.append(
            f"{path}: scores go from {scores.min():.4g} to {scores.max():.4g}, not from 0 to 1: {percent}"
            "AP counts only their order, pictures and thresholds take them as they are"
        )
    rows = (np.column_stack([found.boxes_xywh, found.scores, found.labels]) for found in results.detections)
    repeated = sum(len(row) - len(np.unique(row, axis=0)) for row in rows)
    if repeated >= REPEATED * len(scores):
        notes.append(f"{path}: {repeated:,} of {len(scores):,} detections are there twice; the second counts as wrong")
    return tuple(notes)


def note_order(
    path: Path, results: Results, annotations: AnnotationSet, metrics: Mapping[str, float]
) -> tuple[str, ...]:
    """Note what VisDrone's toolkit would say of texts whose rows are not sorted by score.

    Args:
        path: of the texts.
        results: read from them.
        annotations: they are scored against.
        metrics: of the sorted rows; without VisDrone's among them nothing is noted.
    """
    if results.as_written is None or "visdrone/AP" not in metrics:
        return ()
    unsorted = sum(bool((np.diff(found.scores) > 0).any()) for found in results.as_written)
    official = score_as_written(annotations.records, results.as_written, annotations.classes)
    shown = ("AP", "AP50", "AP75", "AR@1", "AR@10", "AR@100", "AR@500")
    changed = [name for name in shown if abs(official[name] - metrics[f"visdrone/{name}"]) > 1e-9]
    if not changed:
        return ()
    differences = {name: (official[name], metrics[f"visdrone/{name}"]) for name in changed}
    figures = ", ".join(
        f"{name} {theirs:.4f} instead of {ours:.4f} ({theirs - ours:+.4f})"
        for name, (theirs, ours) in differences.items()
    )
    return (
        f"{path}: the rows of {unsorted} texts are not sorted by score; sorted here. The official toolkit counts the "
        f"first rows as they stand: {figures}",
    )


def diagnose_near_zero(results: Results, annotations: AnnotationSet, metrics: Mapping[str, float]) -> Diagnosis | None:
    """Look for a reading under which results fit that score next to nothing; None where they score more."""
    figures = [value for name, value in metrics.items() if name.endswith("/AP50") and not math.isnan(value)]
    found_any = any(len(found.scores) for found in results.detections)
    if not figures or max(figures) >= NEAR_ZERO or not found_any:
        return None
    return diagnose(annotations.records, results.detections, annotations.classes)
