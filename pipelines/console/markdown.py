"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipelines.console.tables import metrics_grids

MOST_ROWS = 60
"""Most rows of a table: MLflow limits the length of a note."""


GAP = "&emsp;"
"""Behind each cell: MLflow's pages set columns without any space between them."""


def metrics_tables(metrics: Mapping[str, float]) -> str:
    """Tables of metrics as MLflow's pages can show them, by kind."""
    return "\n\n".join(spaced_table(titles, rows[:MOST_ROWS]) for titles, rows in metrics_grids(metrics))


def spaced_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as MLflow's pages can show it."""
    header, *others = ([cell + GAP for cell in row] for row in (titles, *rows))
    return markdown_table(header, others)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown has it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
