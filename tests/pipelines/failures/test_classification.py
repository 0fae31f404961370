"""Of what kind an error is, and the sentence of it that matters."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.exceptions import ActorDiedError, OutOfDiskError, OutOfMemoryError, RayActorError, RayTaskError
from ray.train import ControllerError, WorkerGroupError
from torch.utils.data import DataLoader, Dataset

from mrqm.config import ConfigError
from mrqm.engine.progress import DivergenceError
from pipelines.failures.classification import WorkerFailure, classify, classify_text
from pipelines.failures.taxonomy import FailureKind, TrainingError
from pipelines.storage.filesystem import StorageError

from ..ray_reports import OOM_REPORT

K = FailureKind
PASSING = [
    (OSError(errno.ENOSPC, "No space left on device"), K.STORAGE),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), K.STORAGE),
    (OSError(errno.ESTALE, "Stale file handle"), K.STORAGE),
    (OSError(errno.EIO, "Input/output error"), K.STORAGE),
    (OSError("runs/epoch_0001: basic_ios::clear: iostream error"), K.STORAGE),
    (OSError("When reading information for key 'x': AWS Error NETWORK_CONNECTION"), K.STORAGE),
    (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), K.STORAGE),
    (OutOfDiskError("no room for objects"), K.STORAGE),
    (OutOfMemoryError(OOM_REPORT), K.OUT_OF_MEMORY),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), K.OUT_OF_MEMORY),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"), K.OUT_OF_MEMORY),
    (MemoryError(), K.OUT_OF_MEMORY),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), K.OUT_OF_MEMORY),
    (ActorDiedError(), K.PROCESS_LOST),
    (RayActorError(preempted=True), K.PREEMPTED),
    (RuntimeError("gloo/transport/tcp/pair.cc:534] Connection closed by peer"), K.PEER_LOST),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), K.RUNTIME),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.json"), K.RUNTIME),
    (OSError(errno.EMFILE, "Too many open files"), K.RUNTIME),
]
FINAL = [
    (ConfigError("optim.lr: too large"), K.INPUT),
    (TrainingError("no checkpoint was evaluated"), K.INPUT),
    (DivergenceError("step 7: loss not finite"), K.DIVERGED),
    (KeyError("boxes"), K.PROGRAM),
    (ValueError("too many values to unpack"), K.PROGRAM),
    (AssertionError(), K.PROGRAM),
    (StorageError("could not be written for 10 minutes"), K.STORAGE),
]


def wrappings(error: Exception) -> list[Exception]:
    """Wrap an error as Ray, Ray Tune and Ray Train do."""
    task = RayTaskError("train", f"Traceback …\n{error}", error)
    by_worker = WorkerFailure(error, None, "Traceback …")
    return [error, task, task.as_instanceof_cause(), by_worker, WorkerGroupError("failed", {1: by_worker})]


@pytest.mark.parametrize(("error", "kind"), PASSING + FINAL, ids=repr)
def test_an_error_is_of_one_kind_whoever_wrapped_it(error: Exception, kind: FailureKind) -> None:
    final = any(error is each for each, _ in FINAL)
    for wrapped in wrappings(error):
        failure = classify(wrapped)
        assert (failure.kind, failure.final) == (kind, final), wrapped
        assert failure.message and "\n" not in failure.message
        assert pickle.loads(pickle.dumps(failure)) == failure  # noqa: S301 - its own


def test_of_a_controllers_error_its_cause_is_told() -> None:
    assert classify(ControllerError(ConfigError("optim.lr: too large"))).message == "ConfigError: optim.lr: too large"


def test_of_several_workers_the_one_that_explains_the_others_is_told() -> None:
    lost = RuntimeError("gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    peer, dead, killed = WorkerFailure(lost, 3, ""), ActorDiedError(), OutOfMemoryError(OOM_REPORT)
    assert classify(WorkerGroupError("failed", {0: peer, 2: dead, 5: killed})).kind is K.OUT_OF_MEMORY
    assert classify(WorkerGroupError("failed", {0: peer, 2: dead})).kind is K.PROCESS_LOST


class Broken(Dataset[int]):
    """Data set whose items all raise the same error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise self._error


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (OSError(errno.ESTALE, "Stale file handle"), K.STORAGE, "OSError: [Errno 116] Stale file handle"),
        (AttributeError("no boxes"), K.PROGRAM, "AttributeError: no boxes ("),
    ],
)
def test_an_error_of_a_process_that_loads_data_is_told_without_its_traceback(
    error: Exception, kind: FailureKind, said: str
) -> None:
    with pytest.raises(type(error)) as raised:
        list(DataLoader(Broken(error), num_workers=1))
    failure = classify(raised.value)
    assert failure.kind is kind
    assert failure.message.startswith(said)


def test_a_process_that_died_is_told_by_how_it_ended() -> None:
    report = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: X\n\tpid: 7\nThe actor is dead because "
        "its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits "
        "with a connection error code 2. End of file. Some common causes include: (1) the process was killed"
    )
    assert classify(RayActorError(error_msg=report)).message == (
        "The actor died unexpectedly before finishing this task. Worker unexpectedly exits with a connection error "
        "code 2."
    )


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (OOM_REPORT, K.OUT_OF_MEMORY, "out of memory: 7.08GB of the node's 23.54GB were in use"),
        ('  File "a.py", line 1, in f\nOSError: x: No space left on device', K.STORAGE, "OSError: x: No space left"),
        ('  File "a.py", line 1, in f\nKeyError: 1', K.PROGRAM, "KeyError: 1"),
        ("DivergenceError: loss is nan\nkept in x", K.RUNTIME, "DivergenceError: loss is nan"),
        ("", K.RUNTIME, "an error without a message"),
    ],
)
def test_an_error_of_which_only_text_is_left_is_classified_too(text: str, kind: FailureKind, said: str) -> None:
    failure = classify_text(text)
    assert failure.kind is kind
    assert failure.message.startswith(said) and "\n" not in failure.message


def test_real_full_disks_are_told_as_such(tmp_path: Path, small_disk: Any) -> None:
    disk = small_disk(2**16)
    with pytest.raises(OSError) as raised:
        (disk / "x").write_bytes(bytes(2**20))
    assert classify(raised.value).kind is K.STORAGE
