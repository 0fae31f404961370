"""The report of a preparation, on the console and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mrqm.data.analysis.statistics import SplitReport

SHOWN = 5
"""Maximum number of printed repairs and of unreadable images; report.json has all of them."""

Reports = Mapping[str, SplitReport]


def print_report(reports: Reports, console: Console) -> None:
    """Print the statistics of the splits side by side, then their repairs and unreadable images.

    Args:
        reports: reports by split.
        console: terminal or log.
    """
    for title, rows in _tables(reports).items():
        table = Table(title=title, title_justify="left", box=None, header_style="dim")
        table.add_column("", overflow="fold")
        for name in reports:
            table.add_column(Text(name), justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*map(Text, row))  # no markup: class names may contain brackets
        console.print(table, "")
    for name, report in reports.items():
        for fault in _faults(report):
            console.print(f"{name}: {fault}", soft_wrap=True, markup=False, highlight=False)


def to_markdown(settings: Mapping[str, Any], reports: Reports) -> str:
    """Format the settings and the reports in Markdown.

    Args:
        settings: settings of the preparation by name.
        reports: reports by split.

    Returns:
        Content of report.md.
    """
    lines = ["# Prepared data", "", *(f"- {key}: `{value}`" for key, value in settings.items())]
    head = [" ", *reports]
    for title, rows in _tables(reports).items():
        lines += ["", f"## {title}", "", *(_row(row) for row in (head, ["---"] * len(head), *rows))]
    lines += ["", "## Dropped, repaired, unreadable", ""]
    lines += [f"- {name}: {fault}" for name, report in reports.items() for fault in _faults(report)] or ["Nothing."]
    return "\n".join(lines) + "\n"


def _tables(reports: Reports) -> dict[str, list[list[str]]]:
    """Make the rows of the tables by title: a name, then a cell for each split."""
    first = next(iter(reports.values()))
    edges = list(first.sides)
    bins = {
        edge: f"{edge} to {after} px" if after else f"{edge} px and more"
        for edge, after in zip(edges, [*edges[1:], None], strict=True)
    }
    per_image = [[key, *(f"{r.objects_per_image[key]:g}" for r in reports.values())] for key in first.objects_per_image]
    shares = [[f"under {s} px", *(f"{r.share_under[s]:.1%}" for r in reports.values())] for s in first.share_under]
    return {
        "Images": [
            ["images", *(f"{report.images:,}" for report in reports.values())],
            ["images or tiles written", *(f"{report.written:,}" for report in reports.values())],
            ["unreadable", *(f"{len(report.unreadable):,}" for report in reports.values())],
            ["repairs", *(f"{len(report.repairs):,}" for report in reports.values())],
            ["digest", *(report.digest[:12] for report in reports.values())],
        ],
        "Objects by class": [
            [name, *(f"{report.objects[name]:,}" for report in reports.values())] for name in first.objects
        ],
        "Ignored boxes": [
            [name, *(f"{report.ignored[name]:,}" for report in reports.values())]
            for name in first.ignored
            if any(report.ignored[name] for report in reports.values())
        ],
        "Objects by side, the square root of their area": [
            [bins[edge], *(f"{report.sides[edge]:,}" for report in reports.values())] for edge in edges
        ]
        + shares,
        "Objects in an image": per_image,
    }


def _faults(report: SplitReport) -> list[str]:
    lines = [f"left out: {reason}" for reason in report.unreadable[:SHOWN]]
    lines += [f"{repair.where}: {repair.what}" for repair in report.repairs[:SHOWN]]
    hidden = max(0, len(report.unreadable) - SHOWN) + max(0, len(report.repairs) - SHOWN)
    return [*lines, f"and {hidden:,} more, all in report.json"] if hidden else lines


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
