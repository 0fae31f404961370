"""The report of a sweep as one self-contained HTML file: leaderboard, figures, failures, command of the best trial."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader

from pipelines.console.format import duration, number
from pipelines.console.markdown import spaced_table
from tune.report.leaderboard import board_header, board_rows, describe_model, paper_rows
from tune.report.plots import figures
from tune.report.result import SweepResult
from tune.space.schema import describe_params, short_names

LISTED = 5
"""Trials to list in the sweep's MLflow run, whose page is narrow; the report has all."""


def write_report(outcome: SweepResult) -> None:
    """Write the report to the file that the result names."""
    pages = Environment(loader=PackageLoader("tune", "report"), autoescape=True)
    text = pages.get_template("report.html.jinja").render(_content(outcome))
    outcome.report.write_text(text, encoding="utf-8")


def describe_sweep(outcome: SweepResult) -> str:
    """Summarise a sweep in Markdown, for the page of its MLflow run."""
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


def _content(outcome: SweepResult) -> dict[str, Any]:
    """The variables of the report's template."""
    space, history = outcome.space, outcome.history
    best = [("trial", outcome.best.name), ("checkpoint", str(outcome.checkpoint))]
    best += [("model", describe_model(outcome.model)), ("sweep's MLflow run", outcome.run_id)]
    best += [(key, str(value)) for key, value in outcome.best.params.items()]
    keys = list(space.parameters) or list(dict.fromkeys(key for trial in history.trials for key in trial.params))
    rows = [[*cells, *(str(trial.params.get(key, "–")) for key in keys)] for trial, cells in board_rows(space, history)]
    paper = None
    if space.paper is not None:
        header = (space.paper.source, space.paper.column, f"here: {space.objective[0].metric}")
        paper = header, paper_rows(space.paper, space.objective[0], history)
    failed = [trial for trial in history.trials if trial.error]
    kinds = [trial.failure.kind.replace("_", " ") if trial.failure else "" for trial in failed]
    return {
        "name": outcome.name,
        "summary": _summary(outcome),
        "best": best,
        "reproduce": outcome.reproduce,
        "leaderboard": ([*board_header(space, history), *short_names(keys).values()], rows),
        "paper": paper,
        "figures": list(figures(space, history)),
        "failed": [(trial.number, kind, trial.error) for trial, kind in zip(failed, kinds, strict=True)],
    }


def _summary(outcome: SweepResult) -> str:
    space, history = outcome.space, outcome.history
    objective = space.objective[0]
    best = outcome.best.best(objective)
    assert best is not None, "the best trial has a result"
    states = [trial.state for trial in history.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    known = f", started from {len(history.known)} earlier runs" if history.known else ""
    return (
        f"{space.description or 'A sweep'}: {space.search.algorithm}{known}, scheduler {space.scheduler.algorithm}. "
        f"{len(states)} trials ({counts}) in {duration(3600 * history.hours)}. Best: trial {outcome.best.number} with "
        f"{objective.metric} {number(best.metrics[objective.metric])}."
    )
