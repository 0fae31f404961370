"""What Ray Tune is told of trials and tells of them, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train._internal.storage import StorageContext
from ray.tune.experiment import Trial

from mrqm.config import ScalingConfig
from tune.conductor import Task
from tune.on_ray import _Judge


class Told:
    """In place of a conductor: what it is told."""

    def __init__(self) -> None:
        self.lost: list[tuple[int, str]] = []
        self.failed: list[tuple[int, str]] = []

    def lose(self, number: int, reason: str) -> None:
        self.lost.append((number, reason))

    def fail(self, number: int, error: str) -> None:
        self.failed.append((number, error))


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr("ray.train._internal.storage._get_ray_train_session_dir", lambda: str(tmp_path / "session"))
    storage = StorageContext(str(tmp_path / "storage"), "ray", trial_dir_name="t")
    trial = Trial("SweepTrial", stub=True, config={"task": Task(3, {}, None)}, storage=storage)
    trial.init_local_path()
    return trial


def told_of(trial: Trial, error: Any) -> Told:
    told = Told()
    trial.handle_error(error)
    _Judge(told, ScalingConfig(), print).on_trial_error(None, trial)  # type: ignore[arg-type]
    return told


def test_a_trial_whose_process_died_is_lost_not_failed(trial: Trial) -> None:
    told = told_of(trial, ActorDiedError())
    assert not told.failed
    assert [number for number, _ in told.lost] == [3]
    assert "actor died" in told.lost[0][1]


def test_a_trial_with_an_error_that_nobody_foresaw_fails_with_its_last_lines(trial: Trial) -> None:
    error = RayTaskError("train", "\n".join(f"line {n}" for n in range(9)), KeyError("x"))
    told = told_of(trial, error)
    assert not told.lost
    assert told.failed == [(3, "\n".join(f"line {n}" for n in range(4, 9)))]
