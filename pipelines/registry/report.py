"""The output of the `mrqm registry` commands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mrqm.checkpoint.lookup import SCORE
from mrqm.redaction import redact
from mrqm.structures.metric import VALIDATION, group_by_protocol, metric_key
from pipelines.console.format import number
from pipelines.console.tables import metrics_tables, ui_lines
from pipelines.registry.ancestors.chain import describe_ancestors
from pipelines.registry.client import Registry, RegistryError
from pipelines.registry.model_files import read_config
from pipelines.registry.model_version import DATA, DIGEST_DIGITS, Version, differences, printable

HEADLINE = (SCORE, metric_key(VALIDATION, "AP50"))
ABSENT = "–"
NAMED = 5
"""Maximum number of versions in a note."""
WIDEST = 40
"""Maximum width of the column of tag names, in characters."""


def print_models(models: Mapping[str, Sequence[Version]], console: Console) -> None:
    """Print a line for each version of each model, and a note about skipped metrics.

    Args:
        models: versions by model, the newest first.
        console: terminal or log.
    """
    table = _table("model", "aliases", "data", "created", right=("version", *HEADLINE))
    for name, versions in models.items():
        if not versions:
            table.add_row(Text(printable(name)), ABSENT, *[""] * (len(HEADLINE) + 3))
        for version in versions:
            table.add_row(
                Text(printable(name) if version is versions[0] else ""),
                version.number,
                *(number(version.metrics.get(metric, math.nan)) for metric in HEADLINE),
                Text(printable(", ".join(version.aliases))),
                Text(printable(version.tags.get(DATA, ABSENT)[:DIGEST_DIGITS])),
                f"{version.created:%Y-%m-%d %H:%M}",
            )
    console.print(table)
    odd = [version for versions in models.values() for version in versions if version.not_numbers]
    if odd:
        named = ", ".join(f"{version} ({printable(', '.join(version.not_numbers))})" for version in odd[:NAMED])
        more = f" and {len(odd) - NAMED} more" if len(odd) > NAMED else ""
        _line(console, f"skipped metrics without a number: {named}{more}")


def print_version(version: Version, registry: Registry, console: Console) -> None:
    """Print the metrics, tags, run and ancestors of a version.

    Args:
        version: version of a model.
        registry: registry that has the version.
        console: terminal or log.
    """
    aliases = printable("".join(f" @{alias}" for alias in version.aliases))
    _line(console, f"{version}{aliases}, registered {version.created:%Y-%m-%d %H:%M}")
    for table in metrics_tables(version.metrics):
        console.print()
        console.print(table)
    console.print()
    facts = {key: value for key, value in sorted(version.tags.items()) if key not in version.metrics}
    facts["run"] = version.run_id or ABSENT
    facts |= _way_to_run(version, registry)
    facts |= {f"ancestor {depth}": one for depth, one in enumerate(describe_ancestors(version, registry), 1)}
    width = max(min(len(printable(key)), WIDEST) for key in facts) + 2
    for key, value in facts.items():
        _line(console, f"{printable(key):<{width}}{printable(redact(value))}")


def print_comparison(first: Version, second: Version, registry: Registry, console: Console) -> None:
    """Print metrics side by side, with differences where they are comparable, and the settings that differ.

    Args:
        first: a version.
        second: another version.
        registry: registry that has both.
        console: terminal or log.
    """
    names = printable(f"{first.name}/{first.number}"), printable(f"{second.name}/{second.number}")
    metrics = dict(sorted((first.metrics | second.metrics).items()))
    for protocol, group in group_by_protocol(metrics).items():
        chosen = [metric.key for metric in group]
        reasons = differences(first, second, protocol)
        console.print(_metrics_table(names, first.metrics, second.metrics, chosen, comparable=not reasons))
        if reasons:
            console.print(Text(f"not comparable under {protocol}, so no differences are shown:", style="bold red"))
        for reason in reasons:
            _line(console, f"  {reason}")
        console.print()
    for version in (first, second):
        if version.not_numbers:
            names_skipped = printable(", ".join(version.not_numbers))
            _line(console, f"skipped metrics of {version} without a number: {names_skipped}")
    try:
        settings = differing_settings(read_config(registry, first), read_config(registry, second))
    except RegistryError as error:
        _line(console, f"settings are not compared: {printable(str(error))}")
        return
    table = _table("setting", *names)
    for row in settings:
        table.add_row(*(Text(printable(redact(cell))) for cell in row))
    console.print(table if table.row_count else "their configurations are the same")


def differing_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """List the keys of two configurations that differ.

    Args:
        first: values by dotted key.
        second: values by dotted key.

    Returns:
        Key, first value and second value of each difference.
    """
    return [
        (key, str(first.get(key, ABSENT)), str(second.get(key, ABSENT)))
        for key in sorted(first.keys() | second.keys())
        if first.get(key, ABSENT) != second.get(key, ABSENT)
    ]


def _way_to_run(version: Version, registry: Registry) -> dict[str, str]:
    try:
        run = registry.run(version)
    except RegistryError as error:
        return {"view the run": str(error)}
    return ui_lines(redact(registry.uri), run.info.run_id)


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
        table.add_row(Text(printable(metric)), *map(number, values), *shown)
    return table


def _table(first: str, *columns: str, right: Sequence[str] = ()) -> Table:
    """Make a table without borders: a first column, right-aligned columns, and others."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for name in right:
        table.add_column(Text(name), justify="right", no_wrap=True)
    for name in columns:
        table.add_column(Text(name), overflow="fold")
    return table


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)
