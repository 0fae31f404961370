"""The reaction to failed workers: they are restarted, or the training ends."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from mrqm.config import ConfigError
from pipelines.compute.message_queue import MessageQueue
from pipelines.compute.messages import Interrupted
from pipelines.failures.classification import WorkerFailure
from pipelines.failures.policy import PATIENCE, FailurePolicy
from pipelines.failures.taxonomy import TrainingError
from pipelines.storage.checkpoints import CheckpointStore
from pipelines.storage.filesystem import StorageError, open_storage
from pipelines.training import failure_callback
from pipelines.training.failure_callback import FailureCallback

from ..ray_reports import OOM_REPORT

LOST = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer")
RETRIES = FailurePolicy().max_failures


class Tape(MessageQueue):
    """Message queue that records instead of sending."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send_later(self, event: Any) -> None:
        self.sent.append(event)


@pytest.fixture
def tape() -> Tape:
    return Tape()


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Delays of the callback in seconds, without sleeping."""
    seconds: list[float] = []
    monkeypatch.setattr(failure_callback.time, "sleep", lambda delay: seconds.append(delay) if delay else None)
    return seconds


@pytest.fixture
def callback(tape: Tape, tmp_path: Path, waited: list[float]) -> FailureCallback:
    return FailureCallback(tape, CheckpointStore(open_storage(str(tmp_path), "demo"), keep=1))


def failure(error: Exception, step: int | None = 7) -> WorkerFailure:
    return WorkerFailure(error, step, 'Traceback …\n  File "mrqm/x.py", line 3, in look')


def save(folder: Path, name: str) -> None:
    for file in ("model.safetensors", "training.pt", "config.yaml", "metrics.json"):
        (folder / "demo" / name).mkdir(parents=True, exist_ok=True)
        (folder / "demo" / name / file).write_text("{}")


def test_a_failure_survives_the_way_to_the_controller() -> None:
    again = pickle.loads(pickle.dumps(failure(ConfigError("data.root: gone"))))  # noqa: S301 - its own
    assert (type(again.error), again.step) == (ConfigError, 7)
    assert again.details.startswith("Traceback …")


def test_of_several_failures_the_first_cause_is_told(callback: FailureCallback, tape: Tape) -> None:
    callback.after_exception(None, {0: failure(LOST), 1: failure(RuntimeError("device lost"))})
    callback.after_exception(None, {0: failure(LOST), 1: RayActorError()})
    assert [event.text for event in tape.sent] == [
        "worker 1 failed: after step 7: RuntimeError: device lost", "worker 1 died"
    ]  # fmt: skip
    assert isinstance(tape.sent[0], Interrupted) and tape.sent[0].details.startswith("Traceback …")


def test_what_the_user_has_to_mend_ends_the_training_at_once(callback: FailureCallback) -> None:
    with pytest.raises(ConfigError, match=r"data\.root: gone"):
        callback.after_exception(None, {0: failure(RuntimeError("x")), 1: failure(ConfigError("data.root: gone"))})


def test_an_error_of_the_program_ends_the_training_at_once_and_says_where(callback: FailureCallback) -> None:
    said = (
        r"worker 0 failed with an error of the program: after step 7: KeyError: 'boxes' \(mrqm/x\.py, line 3, in look"
    )
    with pytest.raises(TrainingError, match=said):
        callback.after_exception(None, {0: failure(KeyError("boxes"))})


def test_the_same_error_at_the_same_step_ends_the_training(callback: FailureCallback) -> None:
    callback.after_exception(None, {0: failure(RuntimeError("tried to allocate 20 MiB"))})
    with pytest.raises(TrainingError, match=r"worker 1 failed twice in the same way.*allocate 30 MiB"):
        callback.after_exception(None, {1: failure(RuntimeError("tried to allocate 30 MiB"))})


def test_the_same_error_at_another_step_does_not(callback: FailureCallback) -> None:
    for step in (7, 9):
        callback.after_exception(None, {0: failure(RuntimeError("device lost"), step)})


def test_lost_connections_and_deaths_are_no_errors_of_the_survivors(callback: FailureCallback) -> None:
    for _ in range(2):
        callback.after_exception(None, {0: failure(LOST)})
    callback.after_exception(None, {1: RayActorError()})


def test_workers_that_come_nowhere_are_given_up(callback: FailureCallback, tmp_path: Path) -> None:
    save(tmp_path, "epoch_0002")
    for _ in range(RETRIES):
        callback.after_exception(None, {1: RayActorError()})
    save(tmp_path, "epoch_0003")
    for _ in range(RETRIES):
        callback.after_exception(None, {1: RayActorError()})
    with pytest.raises(TrainingError, match=r"failed 4 times without progress since checkpoint epoch_0003"):
        callback.after_exception(None, {1: RayActorError()})


def test_preempted_nodes_are_never_counted(callback: FailureCallback, tape: Tape) -> None:
    gone = RayActorError(preempted=True)
    for _ in range(3 * RETRIES):
        callback.after_exception(None, {1: gone})
    assert tape.sent[0].text == "worker 1 died with its node"


def test_a_store_that_is_away_is_waited_for_longer_each_time_and_not_for_ever(
    callback: FailureCallback, tape: Tape, waited: list[float]
) -> None:
    """An unreachable store raises the same error at the same step repeatedly."""
    away = failure(OSError(5, "Input/output error", "/mnt/data/7.jpg"))
    with pytest.raises(StorageError, match=r"waited 10 minutes for storage since the beginning.*Input/output error"):
        for _ in range(1000):
            callback.after_exception(None, {0: away})
    assert waited == sorted(waited) and waited[0] == 5 and PATIENCE <= sum(waited) < 1.2 * PATIENCE
    assert tape.sent[0].text.endswith("'/mnt/data/7.jpg'; retrying in 5 s")


def test_a_worker_that_ray_killed_for_memory_is_told_in_a_sentence(callback: FailureCallback, tape: Tape) -> None:
    killed = WorkerHealthCheckFailedError("a health check failed", failure=OutOfMemoryError(OOM_REPORT))
    callback.after_exception(None, {1: killed})
    assert tape.sent[0].text == (
        "worker 1 failed: out of memory: 7.08GB of the node's 23.54GB were in use, over Ray's limit of 30.0%, "
        "4.34GB by the process that Ray killed"
    )
    for _ in range(2):
        callback.after_exception(None, {1: killed, 0: failure(LOST)})


def test_memory_that_is_short_again_and_again_ends_the_training_with_a_remedy(callback: FailureCallback) -> None:
    short = failure(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 99 bytes"))
    callback.after_exception(None, {0: short})
    with pytest.raises(TrainingError, match=r"(?s)twice in the same way.*lower train\.batch_size"):
        callback.after_exception(None, {0: short})
