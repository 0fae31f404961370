"""A sweep as one HTML file that needs nothing else: leaderboard, figures, what failed, how to train the best again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from pipelines.console.format import duration, number
from pipelines.console.markdown import spaced_table
from tune.report.leaderboard import board_header, board_rows, describe_model, paper_rows
from tune.report.plots import figures
from tune.report.result import SweepResult
from tune.space.schema import describe_params, short_names

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1400px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;font-size:13px}th,td{padding:.25em .8em;text-align:left;border-bottom:1px solid #ddd}
td{white-space:pre-line;font-variant-numeric:tabular-nums}.wide{overflow-x:auto}
pre{background:#f5f5f5;padding:1em;white-space:pre-wrap}h2{margin-top:2em}"""

LISTED = 5
"""Trials in the sweep's MLflow run: its page is narrow, and the report has all."""


def write_report(outcome: SweepResult) -> None:
    """Write the report to the outcome's file."""
    outcome.report.write_text("\n".join(_parts(outcome)), encoding="utf-8")


def describe_sweep(outcome: SweepResult) -> str:
    """The same in short, for the page of the sweep's MLflow run, in Markdown."""
    objective = outcome.space.objective[0]
    rows = [
        [str(trial.number), number(best.metrics[objective.metric]), trial.state, describe_params(trial.params)]
        for trial in outcome.history.best_trials(objective)[:LISTED]
        if (best := trial.best(objective))
    ]
    parts = [_summary(outcome), spaced_table(["trial", objective.metric, "state", "parameters"], rows)]
    if outcome.reproduce:
        parts.append(f"The best trial again: `{outcome.reproduce}`")
    return "\n\n".join([*parts, f"All trials and figures: `{outcome.report.name}` among the artifacts."])


def _parts(outcome: SweepResult) -> Iterable[str]:
    space, history = outcome.space, outcome.history
    yield f"<!doctype html><meta charset='utf-8'><title>{escape(outcome.name)}</title><style>{STYLE}</style>"
    yield f"<h1>{escape(outcome.name)}</h1><p>{escape(_summary(outcome))}</p>"
    best = [("trial", outcome.best.name), ("checkpoint", str(outcome.checkpoint))]
    best += [("model", describe_model(outcome.model)), ("sweep's MLflow run", outcome.run_id)]
    best += [(key, str(value)) for key, value in outcome.best.params.items()]
    yield "<h2>The best</h2>" + _table((), best)
    if outcome.reproduce:
        yield f"<p>Train it again:</p><pre>{escape(outcome.reproduce)}</pre>"
    keys = list(space.parameters) or list(dict.fromkeys(key for trial in history.trials for key in trial.params))
    rows = ([*cells, *(str(trial.params.get(key, "–")) for key in keys)] for trial, cells in board_rows(space, history))
    yield "<h2>Leaderboard</h2>" + _table([*board_header(space, history), *short_names(keys).values()], rows)
    if space.paper is not None:
        header = (space.paper.source, space.paper.column, f"here: {space.objective[0].metric}")
        yield "<h2>Beside the paper</h2>" + _table(header, paper_rows(space.paper, space.objective[0], history))
    for index, (title, figure) in enumerate(figures(space, history)):
        script = "inline" if index == 0 else False
        yield f"<h2>{escape(title)}</h2>" + figure.to_html(full_html=False, include_plotlyjs=script)
    if failed := [trial for trial in history.trials if trial.error]:
        kinds = [trial.failure.kind.replace("_", " ") if trial.failure else "" for trial in failed]
        lines = ((str(trial.number), kind, trial.error or "") for trial, kind in zip(failed, kinds, strict=True))
        yield "<h2>Failed</h2>" + _table(("trial", "kind", "error"), lines)


def _summary(outcome: SweepResult) -> str:
    space, history = outcome.space, outcome.history
    objective = space.objective[0]
    best = outcome.best.best(objective)
    assert best is not None, "the best trial has a result"
    states = [trial.state for trial in history.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    known = f", which knew {len(history.known)} earlier runs" if history.known else ""
    return (
        f"{space.description or 'A sweep'}: {space.search.algorithm}{known}, scheduler {space.scheduler.algorithm}. "
        f"{len(states)} trials ({counts}) in {duration(3600 * history.hours)}. Best: trial {outcome.best.number} with "
        f"{objective.metric} {number(best.metrics[objective.metric])}."
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    head = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in header)}</tr>" if header else ""
    return f"<div class=wide><table>{head}{''.join(lines)}</table></div>"
