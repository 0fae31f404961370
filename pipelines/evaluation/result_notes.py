"""Notes on the metrics of result files: unusual scores, duplicates, unsorted rows, wrong formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mrqm.data.results.writer import Results
from mrqm.evaluation.analysis.diagnosis import Diagnosis, diagnose
from mrqm.evaluation.protocols.file_order import score_as_written
from mrqm.structures.annotations import AnnotationSet
from mrqm.structures.metric import group_by_protocol, read_metrics

NEAR_ZERO = 0.05
"""Maximum AP50 under which results are suspected to be in another format."""
REPEATED = 0.01
"""Minimum share of duplicate detections for a note."""


def note_doubts(path: Path, results: Results) -> tuple[str, ...]:
    """Note scores outside [0, 1], and duplicate detections.

    Args:
        path: path of the results.
        results: detections read from it.

    Returns:
        Notes, each a sentence.
    """
    scores = np.concatenate([found.scores for found in results.detections])
    if not len(scores):
        return (f"{path}: has no detection",)
    notes = []
    if scores.max() > 1 or scores.min() < 0:
        percent = "percentages? " if scores.min() >= 0 and scores.max() <= 100 else ""
        notes.append(
            f"{path}: scores range from {scores.min():.4g} to {scores.max():.4g}, not from 0 to 1: {percent}"
            "AP depends only on their order; pictures and thresholds use them unchanged"
        )
    rows = (np.column_stack([found.boxes_xywh, found.scores, found.labels]) for found in results.detections)
    repeated = sum(len(row) - len(np.unique(row, axis=0)) for row in rows)
    if repeated >= REPEATED * len(scores):
        notes.append(f"{path}: {repeated:,} of {len(scores):,} detections are duplicates, which count as wrong")
    return tuple(notes)


def note_order(
    path: Path, results: Results, annotations: AnnotationSet, metrics: Mapping[str, float]
) -> tuple[str, ...]:
    """Note the metrics of VisDrone's toolkit for texts whose rows are not sorted by score.

    Args:
        path: folder of the texts.
        results: detections read from it.
        annotations: annotations of the images.
        metrics: metrics of the sorted rows; a note is made only if VisDrone's are among them.

    Returns:
        One note, or none.
    """
    ours = {metric.name: metric.value for metric in group_by_protocol(metrics).get("visdrone", ())}
    if results.as_written is None or not ours:
        return ()
    unsorted = sum(bool((np.diff(found.scores) > 0).any()) for found in results.as_written)
    official = score_as_written(annotations.records, results.as_written, annotations.classes)
    shown = ("AP", "AP50", "AP75", "AR@1", "AR@10", "AR@100", "AR@500")
    changed = [name for name in shown if abs(official[name] - ours[name]) > 1e-9]
    if not changed:
        return ()
    differences = {name: (official[name], ours[name]) for name in changed}
    figures = ", ".join(
        f"{name} {as_written:.4f} instead of {by_score:.4f} ({as_written - by_score:+.4f})"
        for name, (as_written, by_score) in differences.items()
    )
    return (
        f"{path}: the rows of {unsorted} texts are not sorted by score; sorted here. The official toolkit counts the "
        f"first rows in file order: {figures}",
    )


def diagnose_near_zero(results: Results, annotations: AnnotationSet, metrics: Mapping[str, float]) -> Diagnosis | None:
    """Find the format under which results with an AP50 near 0 fit the annotations.

    Args:
        results: detections.
        annotations: annotations of the images.
        metrics: metrics of the detections by name.

    Returns:
        The diagnosis; None where AP50 is not near 0 or there are no detections.
    """
    figures = [metric.value for metric in read_metrics(metrics) if metric.name == "AP50" and metric.is_known]
    found_any = any(len(found.scores) for found in results.detections)
    if not figures or max(figures) >= NEAR_ZERO or not found_any:
        return None
    return diagnose(annotations.records, results.detections, annotations.classes)
