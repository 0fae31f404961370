"""The plot of loss and AP over a whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mrqm.structures.metric import TRAIN, VALIDATION, group_by_protocol, metric_key
from pipelines.console.plot_style import COLOURS, DPI, style_axes

LOSSES = ("loss", "loss_class", "loss_bbox", "loss_giou")
SMOOTHED = 60
"""Maximum number of points of a loss curve; each is the mean of an interval of steps."""

History = Mapping[str, Sequence[tuple[int, float]]]
"""Steps and values by metric."""


def plot_training(path: Path, history: History) -> Path:
    """Draw losses and, beside them, AP over optimizer steps.

    Args:
        path: PNG file to write.
        history: history of a run's metrics, by their names in MLflow.

    Returns:
        Path of the file.
    """
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    style_axes(left, "Training loss", "optimizer step", "loss")
    _draw_losses(left, history)
    style_axes(right, f"Validation by {VALIDATION}'s protocol", "optimizer step", "AP")
    _draw_precision(right, history)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (left, right):
        if axes.lines:
            axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=DPI)
    return path


def _draw_losses(axes: Axes, history: History) -> None:
    for colour, name in zip(COLOURS, LOSSES, strict=False):
        if points := history.get(metric_key(TRAIN, name)):
            steps, values = np.array(points).T
            axes.plot(steps, values, color=colour, alpha=0.2, linewidth=1)
            parts = [np.array_split(series, min(SMOOTHED, len(steps))) for series in (steps, values)]
            middle, mean = ([part.mean() for part in series] for series in parts)
            axes.plot(middle, mean, color=colour, linewidth=2, label=name)
    axes.set_ylim(bottom=0)


def _draw_precision(axes: Axes, history: History) -> None:
    """Draw AP over all classes: by IoU and by size."""
    last = group_by_protocol({key: points[-1][1] for key, points in history.items()})
    chosen = [each for each in last.get(VALIDATION, ()) if each.name.startswith("AP") and each.class_name is None]
    for colour, metric in zip(COLOURS, chosen, strict=False):
        steps, values = np.array(history[metric.key]).T
        axes.plot(steps, values, color=colour, marker="o", markersize=3, label=metric.name)
    axes.set_ylim(bottom=0)
