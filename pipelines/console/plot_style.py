"""One style for every plot."""

from __future__ import annotations

from matplotlib.axes import Axes

# Palette of Okabe and Ito; further classes reuse the colours with another line style.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D00", "#444444")


INK, GRID = "#222222", "#DDDDDD"


DPI = 150


def style_axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Set the labels and the common style of all plots.

    Args:
        axes: axes of a figure.
        title: title above the axes.
        x: label of the x axis.
        y: label of the y axis.
    """
    axes.set_title(title, loc="left", color=INK, fontsize=12, fontweight="bold", pad=12)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=GRID)
    axes.spines[["top", "right"]].set_visible(False)
