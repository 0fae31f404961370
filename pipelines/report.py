"""Metrics and summaries as text for people."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipelines.runs import Summary


def metrics_table(metrics: Mapping[str, float]) -> Table:
    """AP over all classes with its variants, and AP of each class.

    Args:
        metrics: named as by `CocoEvaluator`: `AP`, `AP50`, …, `AP/<class>`.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    overall = {name: value for name, value in metrics.items() if "/" not in name}
    for name in overall:
        table.add_column(name, justify="right")
    table.add_row("all classes", *map(number, overall.values()))
    for name, value in metrics.items():
        if name.startswith("AP/"):
            table.add_row(name.removeprefix("AP/"), number(value))
    return table


def number(value: float) -> str:
    """A metric in three digits; a dash for what nothing was there to measure."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def print_summary(summary: Summary, console: Console) -> None:
    """What came of a run and the commands that go on from there."""
    console.print()
    console.print(metrics_table(summary.metrics))
    console.print()
    lines = {
        "best checkpoint": f"{relative(summary.checkpoint)} (epoch {summary.epoch})",
        "picture": relative(summary.picture) if summary.picture else "none",
        "model": summary.registered_as or summary.model_uri,
        "look at the run": ui_command(summary.tracking_uri),
        "evaluate again": f"{command('mrqm')} evaluate {relative(summary.checkpoint)}",
    }
    for name, text in lines.items():
        console.print(f"{name:<17}{text}", soft_wrap=True, highlight=False, markup=False)


def ui_command(tracking_uri: str) -> str:
    """How to look at an MLflow store: the command for a database, the address of a server."""
    if tracking_uri.startswith("http"):
        return tracking_uri
    return f"{command('mlflow')} ui --backend-store-uri {tracking_uri}"


def command(name: str) -> str:
    """A program of this environment as it can be called from here."""
    here = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    return name if found and Path(found) == here else relative(here)


def relative(path: str | Path) -> str:
    """A path seen from the current folder, if it lies in it."""
    path = Path(path)
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
