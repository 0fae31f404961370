"""The output at the end of a training and of a replay."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from mrqm.engine.divergence import Replay
from pipelines.console.format import command, relative
from pipelines.console.tables import metrics_tables, ui_lines
from pipelines.storage.run_summary import Summary


def print_summary(summary: Summary, console: Console) -> None:
    """Print the outcome of a run and the commands to continue with.

    Args:
        summary: outcome of the run.
        console: terminal or log.
    """
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
        lines["incomplete"] = (
            f"MLflow did not answer: {summary.pending} reports are kept in {relative(summary.folder)}; "
            "repeat the command to send them and register the model"
        )
    for name, text in lines.items():
        console.print(f"{name:<17}{text}", soft_wrap=True, highlight=False, markup=False)


def print_replay(result: Replay, console: Console) -> None:
    """Print the losses of a saved nonfinite step, as recorded and as recomputed.

    Args:
        result: outcome of the replay.
        console: terminal or log.
    """
    divergence = result.divergence
    console.print(f"epoch {divergence.epoch}, step {divergence.step}, rank {divergence.rank}: {divergence.what}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("loss", "recorded", "repeated"):
        table.add_column(column, justify="left" if column == "loss" else "right")
    for name, value in result.losses.items():
        table.add_row(name, f"{divergence.losses.get(name, math.nan):.4g}", f"{value:.4g}")
    table.add_row("gradient norm", "", f"{result.gradient_norm:.4g}")
    console.print(table)
    console.print(f"first part whose output is not finite: {result.first_bad_module or 'none'}")
