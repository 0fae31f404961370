"""Plots of an evaluation: precision over recall, recall by size, and the AP50 lost to each error by size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mrqm.evaluation.analysis.curves import RecallBySize
from mrqm.evaluation.analysis.errors import ERRORS, SIZE_BINS, ErrorAnalysis
from pipelines.console.plot_style import COLOURS, DPI, INK, style_axes

LINES = ("-", "--", ":")
NUM_DECOMPOSED = 6  # of ERRORS; FP and FN overlap with them


def plot_precision_recall(
    path: Path, curves: NDArray[np.float64], ap50: NDArray[np.float64], classes: Sequence[str]
) -> None:
    """Draw precision over recall of every class that has objects, the best first in the legend.

    Args:
        path: PNG file to write.
        curves: (C, P) precision at P recalls from 0 to 1, from `precision_over_recall`.
        ap50: (C,) AP50 of each class, for the legend.
        classes: names in label order.
    """
    figure, axes = _figure("Precision over recall at IoU 0.5", "recall", "precision", width=8.5)
    recall = np.linspace(0, 1, curves.shape[1])
    with_objects = [label for label in range(len(classes)) if not np.isnan(ap50[label])]
    for label in sorted(with_objects, key=lambda k: -ap50[k]):
        colour, line = COLOURS[label % len(COLOURS)], LINES[label // len(COLOURS) % len(LINES)]
        text = f"{ap50[label]:.2f}  {classes[label]}"
        axes.plot(recall, curves[label], color=colour, linestyle=line, linewidth=2, label=text)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    if with_objects:
        axes.legend(
            title="AP50", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, alignment="left", fontsize=9
        )
    figure.savefig(path, dpi=DPI)


def plot_recall_by_size(path: Path, curve: RecallBySize) -> None:
    """Draw the recall in each range of object sizes, with the number of objects.

    Args:
        path: PNG file to write.
        curve: recall by size, from `recall_by_size`.
    """
    figure, axes = _figure("Recall by size of object at IoU 0.5", "square root of the object's area in px", "recall", 9)
    there = np.flatnonzero(curve.objects)
    places = np.arange(len(there))
    names = [_range_name(curve.edges[i], curve.edges[i + 1]) for i in there]
    axes.bar(places, curve.recall[there], color=COLOURS[0], width=0.8)
    for place, i in zip(places, there, strict=True):
        axes.annotate(
            f"{curve.recall[i]:.2f}\n{curve.objects[i]:,}",
            (place, curve.recall[i]),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=INK,
        )
    axes.set_xticks(places, names, fontsize=8)
    axes.set(ylim=(0, 1.15), yticks=np.linspace(0, 1, 6))
    axes.text(1, 1.01, "on each bar: recall, number of objects", transform=axes.transAxes, ha="right", fontsize=8)
    figure.savefig(path, dpi=DPI)


def plot_errors(path: Path, analysis: ErrorAnalysis) -> None:
    """Draw the AP50 lost to each kind of error, over all sizes and in each size bin, as groups of bars.

    Args:
        path: PNG file to write.
        analysis: lost AP50 by error and size.
    """
    figure, axes = _figure("AP50 lost to each error, by size of object", "", "AP50 lost", width=10)
    there = np.flatnonzero(~np.isnan(analysis.mean_ap50))
    rows = ("all sizes", *(f"{name} px" for name in SIZE_BINS))
    names = [f"{rows[i]}\nAP50 {analysis.mean_ap50[i]:.2f}" for i in there]
    places, width = np.arange(len(there)), 0.8 / NUM_DECOMPOSED
    for error in range(NUM_DECOMPOSED):
        offset = (error - (NUM_DECOMPOSED - 1) / 2) * width
        costs = analysis.mean_lost[there, error]
        bars = axes.bar(places + offset, costs, width * 0.92, color=COLOURS[error], label=ERRORS[error])
        labels = [f"{cost:.2f}" if cost >= 0.005 else "" for cost in costs]
        axes.bar_label(bars, labels, fontsize=7, padding=1, color=INK, rotation=90)
    axes.set_xticks(places, names, fontsize=9)
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)
    axes.legend(ncols=NUM_DECOMPOSED, loc="upper right", bbox_to_anchor=(1, 1.09), frameon=False, fontsize=9)
    figure.savefig(path, dpi=DPI)


def _figure(title: str, x: str, y: str, width: float = 8) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, 5), layout="constrained")
    axes = figure.subplots()
    style_axes(axes, title, x, y)
    return figure, axes


def _range_name(least: float, below: float) -> str:
    return f"≥ {least:g}" if np.isinf(below) else f"{least:g}-{below:g}"
