"""The adapters of Ray Tune, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError
from ray.train._internal.storage import StorageContext
from ray.tune.experiment import Trial

from mrqm.config import ScalingConfig
from pipelines.failures.taxonomy import Failure, FailureKind
from tune.execution.ray_tune import _SchedulerAdapter
from tune.state.messages import Task

from ...pipelines.ray_reports import OOM_REPORT


class RecordedFailures:
    """A trial scheduler that records failures."""

    def __init__(self) -> None:
        self.failures: list[tuple[int, Failure]] = []

    def fail(self, number: int, failure: Failure) -> None:
        self.failures.append((number, failure))


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr("ray.train._internal.storage._get_ray_train_session_dir", lambda: str(tmp_path / "session"))
    storage = StorageContext(str(tmp_path / "storage"), "ray", trial_dir_name="t")
    trial = Trial("SweepTrial", stub=True, config={"task": Task(3, {}, None)}, storage=storage)
    trial.init_local_path()
    return trial


def reported_failure(trial: Trial, error: Any) -> Failure:
    recorded = RecordedFailures()
    trial.handle_error(error)
    _SchedulerAdapter(recorded, ScalingConfig(), print).on_trial_error(None, trial)  # type: ignore[arg-type]
    ((number, failure),) = recorded.failures
    assert number == 3
    return failure


def test_a_trial_whose_process_died_is_retried(trial: Trial) -> None:
    failure = reported_failure(trial, ActorDiedError())
    assert (failure.kind, failure.final) == (FailureKind.PROCESS_LOST, False)
    assert failure.message == "The actor died unexpectedly before finishing this task."


def test_an_error_of_the_program_is_final_and_says_where_it_is(trial: Trial) -> None:
    trace = 'ray::train()\n  File "/a/site-packages/ray/x.py", line 1, in train\n  File "/a/mrqm/y.py", line 7, in look'
    failure = reported_failure(trial, RayTaskError("train", trace, KeyError("x")).as_instanceof_cause())
    assert (failure.kind, failure.final) == (FailureKind.PROGRAM, True)
    assert failure.message == "KeyError: 'x' (mrqm/y.py, line 7, in look)"
    assert "in look" in failure.details


def test_a_full_disk_is_told_from_an_error_of_the_program(trial: Trial) -> None:
    error = OSError("runs/trial-0003/epoch_0001: No space left on device (os error 28)")
    failure = reported_failure(trial, RayTaskError("train", "trace", error).as_instanceof_cause())
    assert (failure.kind, failure.final) == (FailureKind.STORAGE, False)
    assert failure.message == "OSError: runs/trial-0003/epoch_0001: No space left on device (os error 28)"


def test_of_a_process_that_ray_killed_for_memory_the_sentence_that_matters_is_told(trial: Trial) -> None:
    """Ray Tune keeps the text alone, of which most is a list of all processes."""
    failure = reported_failure(trial, OutOfMemoryError(OOM_REPORT))
    assert (failure.kind, failure.final) == (FailureKind.OUT_OF_MEMORY, False)
    assert failure.message == (
        "out of memory: 7.08GB of the node's 23.54GB were in use, over Ray's limit of 30.0%, 4.34GB by the process "
        "that Ray killed"
    )
