"""The results of a sweep as text: the best trials, their cost, and the comparison with a paper."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from mrqm.checkpoint.lookup import SCORE
from mrqm.config.values import canonical
from mrqm.structures.metric import VALIDATION, metric_key
from pipelines.console.format import duration, number, relative
from pipelines.console.tables import ui_lines
from pipelines.registry.register import RegisteredModel
from tune.report.result import SweepResult
from tune.space.schema import Space, describe_params
from tune.space.settings import Objective, Paper
from tune.state.history import History, Trial

GAP = 2
"""Spaces between columns."""
SHOWN = 10
"""Trials to show on the terminal; the report has all."""


def print_result(outcome: SweepResult, console: Console) -> None:
    """Print the leaderboard, the paper's table if there is one, and the commands to continue with.

    Args:
        outcome: result of the sweep.
        console: console to print to.
    """
    space, history = outcome.space, outcome.history
    console.print()
    console.print(leaderboard(space, history, SHOWN, console.width))
    console.print()
    for trial, _ in itertools.islice(board_rows(space, history), SHOWN):  # too long for a column
        text = f"trial {trial.number:<12}{describe_params(trial.params)}"
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    if space.paper is not None:
        console.print()
        console.print(paper_table(space.paper, space.objective[0], history))
    console.print()
    states = [trial.state for trial in history.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines = {
        "trials": f"{len(states)}: {counts}",
        "best": f"trial {outcome.best.number}: {relative(outcome.checkpoint)}",
        "train it again": outcome.reproduce or "its parameters changed while it trained: continue from its checkpoint",
        "model": describe_model(outcome.model),
        "report": relative(outcome.report),
        **ui_lines(outcome.tracking_uri, outcome.run_id),
    }
    for name, text in lines.items():
        console.print(f"{name:<18}{text}", soft_wrap=True, highlight=False, markup=False)
    notes = history.failures()
    notes += ["the same command with --retry-failed runs failed trials again"] if notes else []
    if outcome.unsent:
        notes.append(f"MLflow lacks a part of {outcome.unsent} runs: the same command sends the rest")
    for note in notes:
        console.print(note, soft_wrap=True, highlight=False, markup=False)


def describe_model(model: RegisteredModel | None) -> str:
    """Describe the registered model of the best trial, or its absence."""
    if model is None:
        return "MLflow did not accept it; the same command tries again"
    return f"{model.name} version {model.version}" if model.name else model.uri


def leaderboard(space: Space, history: History, shown: int, width: int = 1000) -> Table:
    """Make a table of the best trials and their cost, with as many columns of AP by size as fit.

    Args:
        space: space of the sweep.
        history: history of the sweep.
        shown: number of trials to show.
        width: columns of the terminal.

    Returns:
        Table for a console.
    """
    header, rows = board_header(space, history), [cells for _, cells in board_rows(space, history)][:shown]
    bins = len(_bins(space, history))
    last = 1 + len(space.objective) + bins  # the first column after those of sizes
    while bins and sum(max(len(row[i]) for row in [header, *rows]) + GAP for i in range(len(header))) - GAP > width:
        last, bins = last - 1, bins - 1
        header, rows = [*header[:last], *header[last + 1 :]], [[*row[:last], *row[last + 1 :]] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for name in header:
        table.add_column(name, no_wrap=True)
    for cells in rows:
        table.add_row(*cells)
    return table


def board_header(space: Space, history: History) -> list[str]:
    """Return the names of a leaderboard's columns.

    Args:
        space: space of the sweep.
        history: history of the sweep.

    Returns:
        One name per column.
    """
    metrics = [*(objective.metric for objective in space.objective), *_bins(space, history)]
    names = [metric.removeprefix(metric_key(VALIDATION, "")) for metric in metrics]
    return ["trial", *names, "epochs", "state", "cost", "AP/hour"]


def board_rows(space: Space, history: History) -> Iterator[tuple[Trial, list[str]]]:
    """Yield the trials that have results, best first, with their cells.

    Args:
        space: space of the sweep.
        history: history of the sweep.

    Returns:
        Iterator over trials, each with the text of its cells.
    """
    bins = _bins(space, history)
    for trial in history.best_trials(space.objective[0]):
        result = trial.best(space.objective[0])
        assert result is not None, "only trials with results are ranked"
        values = [result.metrics.get(name) for name in [*(o.metric for o in space.objective), *bins]]
        yield trial, [
            str(trial.number), *("–" if value is None else number(value) for value in values), str(trial.epoch),
            trial.state, duration(trial.seconds), ap_per_hour(trial),
        ]  # fmt: skip


def ap_per_hour(trial: Trial) -> str:
    """Format the best AP divided by the hours of the trial's epochs."""
    best = trial.best(Objective(metric=SCORE))
    return number(best.metrics[SCORE] / (trial.seconds / 3600)) if best and trial.seconds else "–"


def _bins(space: Space, history: History) -> list[str]:
    """Return the measured metrics of size bins that are not objectives, smallest objects first."""
    names = dict.fromkeys(name for trial in history.trials for result in trial.results for name in result.metrics)
    objectives = {objective.metric for objective in space.objective}
    return [name for name in names if name.startswith(metric_key(VALIDATION, "AP_")) and name not in objectives]


def paper_table(paper: Paper, objective: Objective, history: History) -> Table:
    """Make a table that compares the paper's values with this sweep's.

    Args:
        paper: table of the paper.
        objective: objective that the paper's values measure.
        history: history of the sweep.

    Returns:
        Table for a console.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in (paper.source, paper.column, f"here: {objective.metric}"):
        table.add_column(name, overflow="fold")
    for row in paper_rows(paper, objective, history):
        table.add_row(*row)
    return table


def paper_rows(paper: Paper, objective: Objective, history: History) -> Iterator[list[str]]:
    """Yield parameters, the paper's value, and the value measured here; `–` without a trial of these parameters.

    Args:
        paper: table of the paper.
        objective: objective that the paper's values measure.
        history: history of the sweep.

    Returns:
        Iterator over rows of cells.
    """
    for row in paper.rows:
        trials = [trial for trial in history.trials if canonical({**trial.params, **row.at}) == canonical(trial.params)]
        best = trials[0].best(objective) if trials else None
        mine = number(best.metrics[objective.metric]) if best else "–"
        yield [describe_params(row.at), number(row.value), mine]
