"""Tables of metrics, and lines of a summary."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest

from rich.table import Table
from rich.text import Text

from mrqm.structures.metric import group_by_protocol
from pipelines.console.format import number
from pipelines.console.links import UI_ADDRESS, run_place, ui_command


def metrics_tables(metrics: Mapping[str, float]) -> list[Table]:
    """Format metrics as tables for a console, one per protocol."""
    tables = []
    for titles, rows in metrics_grids(metrics):
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column, title in enumerate(titles):
            if column % 2:
                table.add_column(Text(title), justify="right", no_wrap=True)
            else:
                table.add_column(Text(title), overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))  # no markup: class names may contain brackets
        tables.append(table)
    return tables


def metrics_grids(metrics: Mapping[str, float]) -> list[tuple[list[str], list[list[str]]]]:
    """Arrange metrics in one table per protocol: overall metrics and, beside them, the AP of each class.

    Args:
        metrics: metrics by name: `coco/AP`, `coco/AP50`, …, `coco/AP/<class>`, `visdrone/AP`, …

    Returns:
        Titles of the columns and rows of cells, for each protocol.
    """
    grids = []
    for protocol, group in group_by_protocol(metrics).items():
        overall = [(metric.name, number(metric.value)) for metric in group if metric.class_name is None]
        classes = [(metric.class_name, number(metric.value)) for metric in group if metric.class_name is not None]
        titles = [protocol, "", *(("class", "AP") if classes else ("", ""))]
        grids.append((titles, [[*left, *right] for left, right in zip_longest(overall, classes, fillvalue=("", ""))]))
    return grids


def ui_lines(tracking_uri: str, run_id: str) -> dict[str, str]:
    """Describe access to a run's page: its URL on a server, else a command and the URL to open.

    Args:
        tracking_uri: URI of the MLflow store.
        run_id: id of the MLflow run.

    Returns:
        Labels and texts of the lines to print.
    """
    if tracking_uri.startswith("http"):
        return {"view the run": ui_command(tracking_uri, run_id)}
    return {"view the run": ui_command(tracking_uri, run_id), "and open": run_place(UI_ADDRESS, run_id)}
