"""Metrics and summaries as text for people."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.place import JOB
from mrqm.faults import Replay
from pipelines.runs import Summary

SECONDS_BETWEEN_LINES = 10.0
"""Of progress, in a log."""
UI_ADDRESS = "http://127.0.0.1:5000"
"""Where `mlflow ui` answers."""


def metrics_tables(metrics: Mapping[str, float]) -> list[Table]:
    """`metrics_grids` for a console."""
    tables = []
    for titles, rows in metrics_grids(metrics):
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column, title in enumerate(titles):
            if column % 2:
                table.add_column(Text(title), justify="right", no_wrap=True)
            else:
                table.add_column(Text(title), overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))  # names of classes are whatever their annotators wrote
        tables.append(table)
    return tables


def metrics_grids(metrics: Mapping[str, float]) -> list[tuple[list[str], list[list[str]]]]:
    """For each protocol what it says over all classes and, beside it, the AP of each class: titles and rows.

    Args:
        metrics: `coco/AP`, `coco/AP50`, …, `coco/AP/<class>`, `visdrone/AP`, …
    """
    grids = []
    for protocol in dict.fromkeys(name.partition("/")[0] for name in metrics):
        values = {name.partition("/")[2]: v for name, v in metrics.items() if name.startswith(f"{protocol}/")}
        overall = [(name, number(value)) for name, value in values.items() if "/" not in name]
        classes = [(name.removeprefix("AP/"), number(value)) for name, value in values.items() if "/" in name]
        titles = [protocol, "", *(("class", "AP") if classes else ("", ""))]
        grids.append((titles, [[*left, *right] for left, right in zip_longest(overall, classes, fillvalue=("", ""))]))
    return grids


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown has it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """A metric in three digits; a dash for what nothing was there to measure."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def print_summary(summary: Summary, console: Console) -> None:
    """What came of a run and the commands that go on from there."""
    console.print()
    for table in metrics_tables(summary.metrics):
        console.print(table)
        console.print()
    lines = {
        "best checkpoint": f"{relative(summary.checkpoint)} (epoch {summary.epoch})",
        "picture": relative(summary.picture) if summary.picture else "none",
        "model": summary.registered_as or summary.model_uri or "not in MLflow yet",
        **ui_lines(summary.tracking_uri, summary.run_id),
        "evaluate again": f"{command('mrqm')} evaluate {relative(summary.checkpoint)}",
    }
    if not summary.complete:
        lines["to be done"] = (
            f"MLflow did not answer: {summary.pending} reports are kept in {relative(summary.folder)}; "
            "the same command sends them and registers the model"
        )
    for name, text in lines.items():
        console.print(f"{name:<17}{text}", soft_wrap=True, highlight=False, markup=False)


def duration(seconds: float) -> str:
    """Minutes and seconds, with hours when there are any: `04:10`, `2:04:10`."""
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def print_replay(result: Replay, console: Console) -> None:
    """What a kept step did then, and does now."""
    fault = result.fault
    console.print(f"epoch {fault.epoch}, step {fault.step}, rank {fault.rank}: {fault.what}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("loss", "then", "now"):
        table.add_column(column, justify="left" if column == "loss" else "right")
    for name, value in result.losses.items():
        table.add_row(name, f"{fault.losses.get(name, math.nan):.4g}", f"{value:.4g}")
    table.add_row("gradient norm", "", f"{result.gradient_norm:.4g}")
    console.print(table)
    console.print(f"first part whose output is not finite: {result.first_bad_module or 'none'}")


def ui_lines(tracking_uri: str, run_id: str) -> dict[str, str]:
    """How to look at a run, by what it is called: its page on a server, else a command and the page that it opens."""
    if tracking_uri.startswith("http"):
        return {"look at the run": ui_command(tracking_uri, run_id)}
    return {"look at the run": ui_command(tracking_uri, run_id), "and open": run_place(UI_ADDRESS, run_id)}


def ui_command(tracking_uri: str, run_id: str) -> str:
    """The page of a run on a server, or the command that serves the pages of a database."""
    if tracking_uri.startswith("http"):
        return run_place(tracking_uri, run_id)
    return f"{command('mlflow')} ui --backend-store-uri {tracking_uri}"


def run_place(tracking_uri: str, run_id: str) -> str:
    """Where a run is: its page on a server, or its store and its id."""
    if tracking_uri.startswith("http"):
        return f"{tracking_uri.rstrip('/')}/#/runs/{run_id}"
    return f"{tracking_uri}, run {run_id}"


def command(name: str) -> str:
    """A program of this environment as it can be called from here; from where its user is, in a job."""
    if name == "mrqm" and JOB in os.environ:
        return "mrqm submit --"
    here = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    return name if found and Path(found) == here else relative(here)


def relative(path: str | Path) -> str:
    """A path seen from the current folder, if it lies in it."""
    path = Path(path)
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
