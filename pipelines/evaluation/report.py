"""The report of an evaluation: on the console, and as a folder.

folder/
  metrics.json            metrics by protocol, the protocols' versions, the data's digest, the AP50 lost to errors
  report.md               the same as text
  precision_recall.png    recall_by_size.png    errors.png    worst_images.jpg
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from mrqm.evaluation.analysis.curves import precision_over_recall, recall_by_size
from mrqm.evaluation.analysis.diagnosis import Diagnosis
from mrqm.evaluation.analysis.errors import ERRORS, SIZE_BINS, ErrorAnalysis, decompose
from mrqm.evaluation.analysis.outcomes import RIGHT, Outcomes, find_outcomes
from mrqm.ops.boxes import to_cxcywh
from mrqm.structures.metric import group_by_protocol
from mrqm.visualization.detections import draw_comparison
from pipelines.console.format import number
from pipelines.console.markdown import markdown_table
from pipelines.console.tables import metrics_tables
from pipelines.evaluation.evaluate import EvaluationResult
from pipelines.evaluation.plots import plot_errors, plot_precision_recall, plot_recall_by_size

CONFIDENT = 0.3
"""Minimum score of detections in the picture of the worst images."""
WORST = 6
"""Number of images in that picture."""
ALL_SIZES = "all sizes"
DIAGNOSIS = "AP is near 0. Mean over the objects of the best IoU with a detection:"


class Analysis(NamedTuple):
    """Outcome of every detection and object, and the AP50 lost to each kind of error.

    Attributes:
        outcomes: outcomes under the first protocol's limit of detections.
        errors: AP50 lost to each kind of error.
        notes: sentences that qualify the table.
    """

    outcomes: Outcomes
    errors: ErrorAnalysis
    notes: tuple[str, ...]


def analyse(assessment: EvaluationResult) -> Analysis:
    """Classify every detection and decompose the lost AP50, for the console and the report."""
    found = assessment.found
    outcomes = find_outcomes(found.records, found.detections, len(found.classes), assessment.limit)
    errors = decompose(outcomes)
    notes = (_describe_cut(assessment), _describe_left_out(errors))
    return Analysis(outcomes, errors, tuple(note for note in notes if note))


def print_evaluation(assessment: EvaluationResult, analysis: Analysis, console: Console) -> None:
    """Print the metrics of every protocol, and the AP50 lost to each kind of error by size.

    Args:
        assessment: result of the evaluation.
        analysis: analysis of that result.
        console: terminal or log.
    """
    for table in metrics_tables(assessment.metrics):
        console.print()
        console.print(table)
    console.print()
    for name, tool in assessment.comparable.items():
        console.print(f"{name} is comparable with {tool}", highlight=False)
    console.print()
    console.print(_errors_table(analysis.errors))
    for note in analysis.notes:
        console.print(note, highlight=False)
    console.print(f"\ndata {assessment.data_digest[:16]}, {len(assessment.found.records)} images", highlight=False)
    for note in assessment.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    if assessment.diagnosis is not None:
        _print_diagnosis(assessment.diagnosis, console)


def _print_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("the results, read")
    table.add_column("IoU", justify="right")
    for what, iou in diagnosis.fits:
        table.add_row(Text(what), number(iou))
    console.print(f"\n{DIAGNOSIS}", highlight=False)
    console.print(table)
    console.print(f"diagnosis: {diagnosis.advice}", markup=False, highlight=False)


def write_report(assessment: EvaluationResult, analysis: Analysis, folder: Path) -> tuple[Path, ...]:
    """Write the report's folder; existing files of the same names are replaced.

    Args:
        assessment: result of the evaluation.
        analysis: analysis of that result.
        folder: folder to write.

    Returns:
        Paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcomes, errors, _ = analysis
    report, metrics, worst = (folder / name for name in ("report.md", "metrics.json", "worst_images.jpg"))
    precision, recall, losses = (folder / f"{name}.png" for name in ("precision_recall", "recall_by_size", "errors"))
    plot_precision_recall(precision, precision_over_recall(outcomes), errors.ap50[0], assessment.found.classes)
    plot_recall_by_size(recall, recall_by_size(outcomes))
    plot_errors(losses, errors)
    draw_worst(assessment).save(worst, quality=90)
    metrics.write_text(json.dumps(_document(assessment, analysis), indent=1))
    report.write_text(_markdown(assessment, analysis))
    return report, metrics, precision, recall, losses, worst


def draw_worst(assessment: EvaluationResult) -> Image.Image:
    """Draw the images with most missed objects and confident wrong detections, beside their annotations."""
    found = assessment.found
    faults = []
    for record, detections in zip(found.records, found.detections, strict=True):
        outcomes = find_outcomes([record], [detections], len(found.classes))
        wrong = (outcomes.kinds != RIGHT) & (outcomes.scores >= CONFIDENT)
        faults.append(int(wrong.sum()) + int((~outcomes.found).sum()))
    chosen = np.argsort(-np.array(faults), kind="stable")[:WORST].tolist()
    images, shown, targets = [], [], []
    for index in chosen:
        image, record, detections = found.read_image(index), found.records[index], found.detections[index]
        images.append(image)
        shown.append(detections.to_tensors())
        targets.append(
            {
                "boxes": _normalised(record.boxes, record.size),
                "labels": torch.from_numpy(record.labels),
                "ignore_boxes": _normalised(record.ignore_boxes, record.size),
                "orig_size": torch.tensor(record.size),
                "size": torch.tensor(image.shape[1:]),
            }
        )
    return draw_comparison(images, shown, targets, found.classes, min_score=CONFIDENT)


def _normalised(boxes: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Convert boxes (N, 4) from xyxy in px to normalised cxcywh."""
    return to_cxcywh(torch.from_numpy(boxes)) / torch.tensor(size).flip(0).repeat(2)


def _errors_table(analysis: ErrorAnalysis) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("lost AP50")
    for name in ("AP50", *ERRORS):
        table.add_column(name, justify="right")
    for row in _error_rows(analysis):
        table.add_row(*row)
    return table


def _error_rows(analysis: ErrorAnalysis) -> list[list[str]]:
    """Make one row for all sizes, and one for each size bin with objects."""
    names = (ALL_SIZES, *(f"{name} px" for name in SIZE_BINS))
    return [
        [name, number(ap50), *map(number, lost)]
        for name, ap50, lost in zip(names, analysis.mean_ap50.tolist(), analysis.mean_lost.tolist(), strict=True)
        if not math.isnan(ap50)
    ]


def _describe_cut(assessment: EvaluationResult) -> str:
    """Describe the detections beyond the limit of AP, which the table leaves out; empty if there are none."""
    limit, detections = assessment.limit, assessment.found.detections
    beyond = [len(found.labels) - int(limit.keep(found.labels).sum()) for found in detections]
    total = sum(len(found.labels) for found in detections)
    return (
        f"counted here are the best {limit}, as for {next(iter(assessment.versions))}/AP: {sum(beyond):,} of {total:,} "
        f"detections are left out, in {sum(map(bool, beyond)):,} of {len(beyond):,} images"
        if any(beyond)
        else ""
    )


def _describe_left_out(analysis: ErrorAnalysis) -> str:
    """Describe the classes without any true positive, which count 0 under FN; empty if there are none."""
    counts = zip((ALL_SIZES, *SIZE_BINS), analysis.without_find.tolist(), analysis.with_objects.tolist(), strict=True)
    parts = [f"{name}: {missed} of {classes}" for name, missed, classes in counts if missed]
    return f"classes without any detected object count 0 under FN and Miss ({', '.join(parts)})" if parts else ""


def _document(assessment: EvaluationResult, analysis: Analysis) -> dict[str, object]:
    errors = analysis.errors
    lost = {
        name: {"AP50": ap50, **dict(zip(ERRORS, row, strict=True)), "classes": classes, "classes_without_find": missed}
        for name, ap50, row, classes, missed in zip(
            (ALL_SIZES, *SIZE_BINS),
            errors.mean_ap50.tolist(),
            errors.mean_lost.tolist(),
            errors.with_objects.tolist(),
            errors.without_find.tolist(),
            strict=True,
        )
    }
    return {
        "subject": assessment.subject,
        "view": assessment.view,
        "images": len(assessment.found.records),
        "data_digest": assessment.data_digest,
        "notes": [*assessment.notes, *analysis.notes],
        "diagnosis": None if assessment.diagnosis is None else _diagnosis_document(assessment.diagnosis),
        "protocols": assessment.versions,
        "comparable_with": assessment.comparable,
        "metrics": {name: None if math.isnan(value) else value for name, value in assessment.metrics.items()},
        "lost_AP50": {
            name: {key: None if math.isnan(value) else value for key, value in row.items()}
            for name, row in lost.items()
        },
    }


def _diagnosis_document(diagnosis: Diagnosis) -> dict[str, object]:
    return {"advice": diagnosis.advice, "best_iou": {fit.what: fit.iou for fit in diagnosis.fits}}


def _markdown(assessment: EvaluationResult, analysis: Analysis) -> str:
    parts = [
        f"# {assessment.subject}",
        f"{len(assessment.found.records)} images, data `{assessment.data_digest[:16]}`"
        + (f", view {assessment.view}" if assessment.view else ""),
        *(f"Note: {note}" for note in assessment.notes),
    ]
    if assessment.diagnosis is not None:
        rows = [[what, number(iou)] for what, iou in assessment.diagnosis.fits]
        table = markdown_table(["the results, read", "IoU"], rows)
        parts += ["## Diagnosis", DIAGNOSIS, table, f"The results: {assessment.diagnosis.advice}."]
    groups = group_by_protocol(assessment.metrics)
    for name, version in assessment.versions.items():
        rows = [[metric.name, number(metric.value)] for metric in groups[name]]
        parts += [
            f"## {name}",
            f"Protocol version {version}; comparable with {assessment.comparable[name]}",
            markdown_table(["metric", "value"], rows),
        ]
    parts += [
        "## Where AP50 is lost",
        "AP50 gained by correcting each kind of error alone (TIDE, Bolya et al., 2020), by size of object.",
        markdown_table(["", "AP50", *ERRORS], _error_rows(analysis.errors)),
        *analysis.notes,
        "![Precision over recall](precision_recall.png)",
        "![Recall by size](recall_by_size.png)",
        "![Errors by size](errors.png)",
        "![The worst images](worst_images.jpg)",
    ]
    return "\n\n".join(parts) + "\n"
