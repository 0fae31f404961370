"""Which workers are started again after they failed, and which are not."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayActorError

from mrqm.config import ConfigError
from pipelines.events import Interrupted, Line
from pipelines.failures import RESTARTS, Judge, TrainingError, WorkerFailure

LOST = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer")


class Tape(Line):
    """A line that remembers instead of sending."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send_later(self, event: Any) -> None:
        self.sent.append(event)


@pytest.fixture
def tape() -> Tape:
    return Tape()


@pytest.fixture
def judge(tape: Tape, tmp_path: Path) -> Judge:
    return Judge(tape, str(tmp_path), "demo")


def failure(error: Exception, step: int | None = 7) -> WorkerFailure:
    return WorkerFailure(error, step, "Traceback …")


def save(folder: Path, name: str) -> None:
    for file in ("model.safetensors", "training.pt", "config.yaml", "metrics.json"):
        (folder / "demo" / name).mkdir(parents=True, exist_ok=True)
        (folder / "demo" / name / file).write_text("{}")


def test_a_failure_survives_the_way_to_the_controller() -> None:
    again = pickle.loads(pickle.dumps(failure(ConfigError("data.root: gone"))))  # noqa: S301 - its own
    assert (type(again.error), again.step, again.details) == (ConfigError, 7, "Traceback …")
    assert str(again) == "ConfigError after step 7: data.root: gone"


def test_of_several_failures_the_first_cause_is_told(judge: Judge, tape: Tape) -> None:
    judge.after_exception(None, {0: failure(LOST), 1: failure(RuntimeError("out of memory"))})
    judge.after_exception(None, {0: failure(LOST), 1: RayActorError()})
    assert [event.text for event in tape.sent] == [
        "worker 1 failed: RuntimeError after step 7: out of memory", "worker 1 died"
    ]  # fmt: skip
    assert isinstance(tape.sent[0], Interrupted) and tape.sent[0].details == "Traceback …"


def test_what_the_user_has_to_mend_ends_the_training_at_once(judge: Judge) -> None:
    with pytest.raises(ConfigError, match=r"data\.root: gone"):
        judge.after_exception(None, {0: failure(LOST), 1: failure(ConfigError("data.root: gone"))})


def test_an_error_of_the_program_ends_the_training_at_once(judge: Judge) -> None:
    with pytest.raises(TrainingError, match=r"worker 0 failed with an error of the program: KeyError after step 7"):
        judge.after_exception(None, {0: failure(KeyError("boxes"))})


def test_the_same_error_at_the_same_step_ends_the_training(judge: Judge) -> None:
    judge.after_exception(None, {0: failure(RuntimeError("tried to allocate 20 MiB"))})
    with pytest.raises(TrainingError, match=r"(?s)worker 1 failed twice in the same way.*allocate 30 MiB"):
        judge.after_exception(None, {1: failure(RuntimeError("tried to allocate 30 MiB"))})


def test_the_same_error_at_another_step_does_not(judge: Judge) -> None:
    for step in (7, 9):
        judge.after_exception(None, {0: failure(OSError("stale file handle"), step)})


def test_lost_connections_and_deaths_are_no_errors_of_the_survivors(judge: Judge) -> None:
    for _ in range(2):
        judge.after_exception(None, {0: failure(LOST)})
    judge.after_exception(None, {1: RayActorError()})


def test_workers_that_come_nowhere_are_given_up(judge: Judge, tmp_path: Path) -> None:
    save(tmp_path, "epoch_0002")
    for _ in range(RESTARTS):
        judge.after_exception(None, {1: RayActorError()})
    save(tmp_path, "epoch_0003")
    for _ in range(RESTARTS):
        judge.after_exception(None, {1: RayActorError()})
    with pytest.raises(TrainingError, match=r"failed 4 times since checkpoint epoch_0003"):
        judge.after_exception(None, {1: RayActorError()})


def test_preempted_nodes_are_never_counted(judge: Judge, tape: Tape) -> None:
    gone = RayActorError(preempted=True)
    for _ in range(3 * RESTARTS):
        judge.after_exception(None, {1: gone})
    assert tape.sent[0].text == "worker 1 died with its node"
