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

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mrqm.evaluation.analysis.curves import precision_over_recall, recall_by_size
from mrqm.evaluation.analysis.diagnosis import Diagnosis
from mrqm.evaluation.analysis.errors import ERRORS, SIZE_BINS, ErrorAnalysis, decompose
from mrqm.evaluation.analysis.outcomes import Outcomes, find_outcomes
from mrqm.structures.metric import group_by_protocol
from pipelines.console.format import number
from pipelines.console.markdown import markdown_table
from pipelines.console.tables import metrics_tables
from pipelines.evaluation.evaluate import EvaluationResult
from pipelines.evaluation.plots import plot_errors, plot_precision_recall, plot_recall_by_size
from pipelines.evaluation.worst_images import draw_worst

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


def analyse(result: EvaluationResult) -> Analysis:
    """Classify every detection and decompose the lost AP50, for the console and the report."""
    found = result.found
    outcomes = find_outcomes(found.records, found.detections, len(found.classes), result.limit)
    errors = decompose(outcomes)
    notes = (_describe_cut(result), _describe_left_out(errors))
    return Analysis(outcomes, errors, tuple(note for note in notes if note))


def print_evaluation(result: EvaluationResult, analysis: Analysis, console: Console) -> None:
    """Print the metrics of every protocol, and the AP50 lost to each kind of error by size.

    Args:
        result: result of the evaluation.
        analysis: analysis of that result.
        console: terminal or log.
    """
    for table in metrics_tables(result.metrics):
        console.print()
        console.print(table)
    console.print()
    for name, tool in result.comparable.items():
        console.print(f"{name} is comparable with {tool}", highlight=False)
    console.print()
    console.print(_errors_table(analysis.errors))
    for note in analysis.notes:
        console.print(note, highlight=False)
    console.print(f"\ndata {result.data_digest[:16]}, {len(result.found.records)} images", highlight=False)
    for note in result.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    if result.diagnosis is not None:
        _print_diagnosis(result.diagnosis, console)


def _print_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("the results, read")
    table.add_column("IoU", justify="right")
    for what, iou in diagnosis.fits:
        table.add_row(Text(what), number(iou))
    console.print(f"\n{DIAGNOSIS}", highlight=False)
    console.print(table)
    console.print(f"diagnosis: {diagnosis.advice}", markup=False, highlight=False)


def write_report(result: EvaluationResult, analysis: Analysis, folder: Path) -> tuple[Path, ...]:
    """Write the report's folder; existing files of the same names are replaced.

    Args:
        result: result of the evaluation.
        analysis: analysis of that result.
        folder: folder to write.

    Returns:
        Paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcomes, errors, _ = analysis
    report, metrics, worst = (folder / name for name in ("report.md", "metrics.json", "worst_images.jpg"))
    precision, recall, losses = (folder / f"{name}.png" for name in ("precision_recall", "recall_by_size", "errors"))
    plot_precision_recall(precision, precision_over_recall(outcomes), errors.ap50[0], result.found.classes)
    plot_recall_by_size(recall, recall_by_size(outcomes))
    plot_errors(losses, errors)
    draw_worst(result.found).save(worst, quality=90)
    metrics.write_text(json.dumps(_document(result, analysis), indent=1))
    report.write_text(_markdown(result, analysis))
    return report, metrics, precision, recall, losses, worst


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


def _describe_cut(result: EvaluationResult) -> str:
    """Describe the detections beyond the limit of AP, which the table leaves out; empty if there are none."""
    limit, detections = result.limit, result.found.detections
    beyond = [len(found.labels) - int(limit.keep(found.labels).sum()) for found in detections]
    total = sum(len(found.labels) for found in detections)
    return (
        f"counted here are the best {limit}, as for {next(iter(result.versions))}/AP: {sum(beyond):,} of {total:,} "
        f"detections are left out, in {sum(map(bool, beyond)):,} of {len(beyond):,} images"
        if any(beyond)
        else ""
    )


def _describe_left_out(analysis: ErrorAnalysis) -> str:
    """Describe the classes without any true positive, which count 0 under FN; empty if there are none."""
    counts = zip((ALL_SIZES, *SIZE_BINS), analysis.without_find.tolist(), analysis.with_objects.tolist(), strict=True)
    parts = [f"{name}: {missed} of {classes}" for name, missed, classes in counts if missed]
    return f"classes without any detected object count 0 under FN and Miss ({', '.join(parts)})" if parts else ""


def _document(result: EvaluationResult, analysis: Analysis) -> dict[str, object]:
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
        "subject": result.subject,
        "view": result.view,
        "images": len(result.found.records),
        "data_digest": result.data_digest,
        "notes": [*result.notes, *analysis.notes],
        "diagnosis": None if result.diagnosis is None else _diagnosis_document(result.diagnosis),
        "protocols": result.versions,
        "comparable_with": result.comparable,
        "metrics": {name: None if math.isnan(value) else value for name, value in result.metrics.items()},
        "lost_AP50": {
            name: {key: None if math.isnan(value) else value for key, value in row.items()}
            for name, row in lost.items()
        },
    }


def _diagnosis_document(diagnosis: Diagnosis) -> dict[str, object]:
    return {"advice": diagnosis.advice, "best_iou": {fit.what: fit.iou for fit in diagnosis.fits}}


def _markdown(result: EvaluationResult, analysis: Analysis) -> str:
    parts = [
        f"# {result.subject}",
        f"{len(result.found.records)} images, data `{result.data_digest[:16]}`"
        + (f", view {result.view}" if result.view else ""),
        *(f"Note: {note}" for note in result.notes),
    ]
    if result.diagnosis is not None:
        rows = [[what, number(iou)] for what, iou in result.diagnosis.fits]
        table = markdown_table(["the results, read", "IoU"], rows)
        parts += ["## Diagnosis", DIAGNOSIS, table, f"The results: {result.diagnosis.advice}."]
    groups = group_by_protocol(result.metrics)
    for name, version in result.versions.items():
        rows = [[metric.name, number(metric.value)] for metric in groups[name]]
        parts += [
            f"## {name}",
            f"Protocol version {version}; comparable with {result.comparable[name]}",
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
