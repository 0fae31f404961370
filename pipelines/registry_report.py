"""What the registry says, for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mrqm.redaction import redact
from pipelines.model_version import DATA, DIGEST_DIGITS, Version, differences
from pipelines.registry import Registry
from pipelines.report import metrics_tables, number, ui_command

HEADLINE = ("coco/AP", "coco/AP50")
ABSENT = "–"


def print_models(models: Mapping[str, Sequence[Version]], console: Console) -> None:
    """A line for each version of each model."""
    table = _table("model", "aliases", "data", "created", right=("version", *HEADLINE))
    for name, versions in models.items():
        if not versions:
            table.add_row(Text(name), ABSENT, *[""] * (len(HEADLINE) + 3))
        for version in versions:
            table.add_row(
                Text(name if version is versions[0] else ""),
                version.number,
                *(number(version.metrics.get(metric, math.nan)) for metric in HEADLINE),
                Text(", ".join(version.aliases)),
                version.tags.get(DATA, ABSENT)[:DIGEST_DIGITS],
                f"{version.created:%Y-%m-%d %H:%M}",
            )
    console.print(table)


def print_version(version: Version, registry: Registry, console: Console) -> None:
    """Everything that is known of a version."""
    aliases = "".join(f" @{alias}" for alias in version.aliases)
    _line(console, f"{version}{aliases}, registered {version.created:%Y-%m-%d %H:%M}")
    for table in metrics_tables(version.metrics):
        console.print()
        console.print(table)
    console.print()
    facts = {key: value for key, value in sorted(version.tags.items()) if key not in version.metrics}
    run = registry.run(version)
    facts["run"] = version.run_id or ABSENT
    facts["look at the run"] = "it is deleted" if run is None else ui_command(redact(registry.uri), run.info.run_id)
    width = max(map(len, facts)) + 2
    for key, value in facts.items():
        _line(console, f"{key:<{width}}{value}")


def print_comparison(first: Version, second: Version, registry: Registry, console: Console) -> None:
    """Figures side by side, with differences where they are comparable, and the settings that differ."""
    settings = differing_settings(registry.read_config(first), registry.read_config(second))
    names = f"{first.name}/{first.number}", f"{second.name}/{second.number}"
    metrics = sorted(first.metrics.keys() | second.metrics.keys())
    for protocol in dict.fromkeys(metric.partition("/")[0] for metric in metrics):
        chosen = [metric for metric in metrics if metric.startswith(f"{protocol}/")]
        reasons = differences(first, second, protocol)
        console.print(_metrics_table(names, first.metrics, second.metrics, chosen, comparable=not reasons))
        if reasons:
            console.print(Text(f"not comparable under {protocol}, so no differences are shown:", style="bold red"))
        for reason in reasons:
            _line(console, f"  {reason}")
        console.print()
    table = _table("setting", *names)
    for key, *values in settings:
        table.add_row(key, *(Text(value) for value in values))
    console.print(table if table.row_count else "their configurations are the same")


def differing_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Keys of two flat configurations that differ, with both values."""
    return [
        (key, str(first.get(key, ABSENT)), str(second.get(key, ABSENT)))
        for key in sorted(first.keys() | second.keys())
        if first.get(key, ABSENT) != second.get(key, ABSENT)
    ]


def _metrics_table(
    names: tuple[str, str],
    first: Mapping[str, float],
    second: Mapping[str, float],
    metrics: list[str],
    comparable: bool,
) -> Table:
    table = _table("metric", right=(*names, "difference") if comparable else names)
    for metric in metrics:
        values = [values.get(metric, math.nan) for values in (first, second)]
        change = values[1] - values[0]
        shown = [ABSENT if math.isnan(change) else f"{change:+.3f}"] if comparable else []
        table.add_row(Text(metric), *map(number, values), *shown)
    return table


def _table(first: str, *columns: str, right: Sequence[str] = ()) -> Table:
    """A plain table: a first column, columns of figures, and others."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)
