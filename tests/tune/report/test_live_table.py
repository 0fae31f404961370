"""The display of a running sweep, on a terminal and in a log."""

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mrqm.config import Config
from tune.report.live_table import LiveTable
from tune.report.plan import Plan
from tune.space.schema import make_space
from tune.state.journal import Journal
from tune.state.records import Failed, Lost, Reported, SessionBegan, TrialBegan

TinyConfig = Callable[..., Config]
SPACE = make_space({"parameters": {"optim.lr": {"uniform": [0.1, 1]}}, "budget": {"trials": 4}})
PLAN = Plan(trials=4, epochs=9, at_once=2, checkpoints=7, checkpoint_bytes=1)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "j")
    journal.write(SessionBegan(trials=4))
    return journal


def report(trial: int, epoch: int, ap: float | None, verdict: Any = "continue") -> Reported:
    metrics = {"train/loss": 1.0} | ({} if ap is None else {"coco/AP": ap})
    return Reported(trial=trial, epoch=epoch, step=epoch, metrics=metrics, seconds=30, checkpoint="c", verdict=verdict)


def events(journal: Journal) -> None:
    for number in (0, 1):
        journal.write(TrialBegan(trial=number, params={"optim.lr": 0.25 * (1 + number)}))
    journal.write(report(0, 1, 0.25))
    journal.write(report(1, 1, None))
    journal.write(Lost(trial=1, reason="The actor died."))
    journal.write(report(1, 2, 0.125, "pruned"))
    journal.write(Failed(trial=0, error="DivergenceError: loss is nan"))


def test_a_log_gets_a_line_for_every_epoch_and_for_what_goes_wrong(journal: Journal) -> None:
    console = Console(file=io.StringIO(), width=80)
    with LiveTable(SPACE, PLAN, journal, console) as live:
        journal.listeners.append(live)
        events(journal)
        logging.getLogger("pipelines.tracking.tracker").warning("MLflow does not answer")
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == [
        "trial 0   epoch 1/9  coco/AP 0.250  best 0.250 (trial 0)  running  left 08:45",
        "trial 1   epoch 1/9  coco/AP –  best 0.250 (trial 0)  running  left 08:30",
        "trial 1   resumes from its last checkpoint: The actor died.",
        "trial 1   epoch 2/9  coco/AP 0.125  best 0.250 (trial 0)  pruned  left 01:15",
        "trial 0   failed: DivergenceError: loss is nan",
        "note: MLflow does not answer",
    ]


def test_a_terminal_gets_a_table_and_below_it_only_what_goes_wrong(journal: Journal) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, _environ={})
    with LiveTable(SPACE, PLAN, journal, console) as live:
        journal.listeners.append(live)
        events(journal)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "resumes from its last checkpoint" in text
    assert "trial 0   epoch 1/9" not in text


def test_the_table_has_those_that_run_and_then_the_best(journal: Journal) -> None:
    journal.write(TrialBegan(trial=0, params={"optim.lr": 0.25}))
    journal.write(report(0, 1, 0.5, "pruned"))
    journal.write(TrialBegan(trial=1, params={"optim.lr": 0.5}))
    for epoch, ap in enumerate((0.25, 0.125), 1):
        journal.write(report(1, epoch, ap))
    console = Console(file=io.StringIO(), width=80)
    console.print(LiveTable(SPACE, PLAN, journal, console).table())
    lines = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert lines[0] == ["trial", "epoch", "coco/AP", "best", "state", "left", "parameters"]
    assert lines[1] == ["1", "2/9", "0.125", "0.250", "running", "03:30", "lr=0.5"]
    assert lines[2] == ["0", "1/9", "0.500", "0.500", "pruned", "lr=0.25"]
    assert " ".join(word for line in lines[3:] for word in line).startswith("1 of 4 trials ended, left")
