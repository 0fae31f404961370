"""Descriptions of runs and models for MLflow's pages, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mrqm.config import Config
from mrqm.data import DetectionDataset
from pipelines.model_version import DATA, DIGEST_DIGITS
from pipelines.provenance import VIEW
from pipelines.report import markdown_table, metrics_grids
from pipelines.runs import Summary

ABOUT = (
    "Detectors of small objects (MRQM). `mrqm registry` compares versions and promotes them; "
    "`mrqm predict models:/NAME@ALIAS` and `mlflow.pyfunc.load_model` use them."
)
MOST_ROWS = 60
"""Most rows of a table: MLflow limits the length of a note."""
GAP = "&emsp;"
"""Behind each cell: MLflow's pages set columns without any space between them."""


def describe_run(config: Config, datasets: Mapping[str, DetectionDataset]) -> str:
    """Describe the data and the length of a run before it begins."""
    rows = []
    for split, dataset in datasets.items():
        counts = dataset.describe()
        rows.append([split, f"{counts['images']:,}", f"{counts['items']:,}", f"{counts['objects']:,}"])
    head = f"{config.train.epochs} epochs with {config.model.backbone.name} on `{config.data.name}`"
    return f"{head}\n\n{spaced_table(['', 'images', 'items', 'objects'], rows)}"


def describe_outcome(summary: Summary) -> str:
    """Describe the outcome of a run."""
    model = summary.registered_as or summary.model_uri or "the model is not registered yet"
    return f"Best checkpoint: epoch {summary.epoch}, {model}.\n\n{metrics_tables(summary.metrics)}"


def describe_version(tags: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    """Describe a version and the conditions of its figures.

    Args:
        tags: of the version.
        metrics: as `coco/AP`.
    """
    parts = [f"Trained by run {tags['run.name']}."]
    conditions = {"data": tags.get(DATA, "")[:DIGEST_DIGITS], "looked at": tags.get(VIEW, "")}
    known = [f"{name} `{value}`" for name, value in conditions.items() if value]
    if known:
        parts.append(f"Measured on {', '.join(known)}; figures under other conditions are not comparable.")
    return "\n\n".join([*parts, metrics_tables(metrics)])


def metrics_tables(metrics: Mapping[str, float]) -> str:
    """Tables of metrics as MLflow's pages can show them, by kind."""
    return "\n\n".join(spaced_table(titles, rows[:MOST_ROWS]) for titles, rows in metrics_grids(metrics))


def spaced_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as MLflow's pages can show it."""
    header, *others = ([cell + GAP for cell in row] for row in (titles, *rows))
    return markdown_table(header, others)
