"""Descriptions of runs and models for MLflow's pages, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from mrqm.config import Config
from mrqm.data import DetectionDataset
from pipelines.console.markdown import metrics_tables, spaced_table
from pipelines.storage.run_summary import Summary


def describe_run(config: Config, datasets: Mapping[str, DetectionDataset]) -> str:
    """Describe the data and the length of a run before it begins.

    Args:
        config: training configuration.
        datasets: data sets by split.

    Returns:
        Text in Markdown.
    """
    rows = []
    for split, dataset in datasets.items():
        counts = dataset.describe()
        rows.append([split, f"{counts['images']:,}", f"{counts['items']:,}", f"{counts['objects']:,}"])
    head = f"{config.train.epochs} epochs with {config.model.backbone.name} on `{config.data.name}`"
    return f"{head}\n\n{spaced_table(['', 'images', 'items', 'objects'], rows)}"


def describe_outcome(summary: Summary) -> str:
    """Describe the outcome of a run in Markdown."""
    model = summary.registered_as or summary.model_uri or "the model is not registered yet"
    return f"Best checkpoint: epoch {summary.epoch}, {model}.\n\n{metrics_tables(summary.metrics)}"
