"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipelines.console.tables import metrics_grids

MOST_ROWS = 60
"""Maximum number of rows of a table, since MLflow limits the length of a note."""


GAP = "&emsp;"
"""Suffix of each cell: MLflow's pages put no space between columns."""


def metrics_tables(metrics: Mapping[str, float]) -> str:
    """Format metrics as Markdown tables for MLflow's pages, one per protocol."""
    return "\n\n".join(spaced_table(titles, rows[:MOST_ROWS]) for titles, rows in metrics_grids(metrics))


def spaced_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table for MLflow's pages, with space between its columns.

    Args:
        titles: titles of the columns.
        rows: cells of each row.

    Returns:
        Text in Markdown.
    """
    header, *others = ([cell + GAP for cell in row] for row in (titles, *rows))
    return markdown_table(header, others)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table.

    Args:
        header: titles of the columns.
        rows: cells of each row.

    Returns:
        Text in Markdown.
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
