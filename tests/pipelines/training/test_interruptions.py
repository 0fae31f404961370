"""The cost of interruptions, over all commands that resume a run."""

import json
from pathlib import Path

import pytest

from mrqm.structures.step_report import StepReport
from pipelines.compute.messages import Interrupted, Started
from pipelines.storage.filesystem import open_storage
from pipelines.training import interruptions
from pipelines.training.interruptions import Interruptions

STARTED = Started(epoch=0, step=0, num_parameters=1, epoch_steps=100, workers=2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(interruptions.time, "time", lambda: now[0])
    return now


def at(step: int) -> StepReport:
    return StepReport(1, 2, step, step, 100, {"loss": 1.0}, 0.1, 1.0, step, step, 1.0)


def make(folder: Path, resumed: bool = False) -> Interruptions:
    return Interruptions(open_storage(str(folder), "demo"), resumed)


def test_seconds_are_lost_from_the_last_step_until_it_is_passed_again(tmp_path: Path, clock: list[float]) -> None:
    run = make(tmp_path)
    run.started(STARTED)
    clock[0] = 10
    assert run.passed(at(5)) is None
    clock[0] = 12
    assert run.interrupted(Interrupted("worker 1 died", "…"))
    assert not run.interrupted(Interrupted("worker 1 died", "…"))
    assert run.stopped
    run.started(STARTED)
    assert not run.stopped
    clock[0] = 20
    assert run.passed(at(3)) is None
    clock[0] = 25
    over = run.passed(at(5))
    assert over is not None
    assert (over.what, over.details, over.step) == ("worker 1 died", "…", 5)
    assert (over.seconds_stopped, over.seconds_lost) == (10, 15)
    assert (run.restarts, run.seconds_lost) == (1, 15)
    assert [
        json.loads(line)["what"] for line in (tmp_path / "demo" / "interruptions.jsonl").read_text().splitlines()
    ] == ["worker 1 died"]


def test_workers_that_start_again_without_a_failure_were_replaced(tmp_path: Path, clock: list[float]) -> None:
    run = make(tmp_path)
    run.started(STARTED)
    run.passed(at(1))
    run.started(Started(0, 0, 1, 100, workers=3))
    over = run.passed(at(1))
    assert over is not None and over.what == "workers were replaced, there are 3 now"


def test_a_command_that_continues_a_run_counts_on(tmp_path: Path, clock: list[float]) -> None:
    first = make(tmp_path, resumed=True)
    first.started(STARTED)
    clock[0] = 8
    over = first.passed(at(2))
    assert over is not None and over.what == "resumed by a new command"
    again = make(tmp_path)
    assert (again.restarts, again.seconds_lost) == (1, 8)
