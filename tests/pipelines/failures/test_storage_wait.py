"""Waiting for a disk that is full, within bounds."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from pipelines.failures import storage_wait
from pipelines.failures.storage_wait import attempts, storage_faults_explained, write_patiently
from pipelines.storage.filesystem import StorageError

FULL = OSError(errno.ENOSPC, "No space left on device", "x")


class Disk:
    """Disk that is full for a number of writes."""

    def __init__(self, full: int, error: OSError = FULL) -> None:
        self.full, self.error, self.written = full, error, 0

    def write(self) -> None:
        if self.full > 0:
            self.full -= 1
            raise self.error
        self.written += 1


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    # of this module alone: a loader that is collected meanwhile waits for its processes by the real clock
    monkeypatch.setattr(storage_wait, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return now


def test_what_is_written_at_once_is_not_spoken_of() -> None:
    disk, said = Disk(0), list[str]()
    write_patiently(disk.write, "the report", said.append)
    assert (disk.written, said) == (1, [])


def test_a_disk_that_has_room_again_costs_nothing_but_time() -> None:
    disk, said = Disk(5), list[str]()
    write_patiently(disk.write, "the report", said.append)
    assert disk.written == 1
    assert said == [
        f"waiting for storage, 10 minutes at most: the report could not be written: {FULL}",
        "the report was written",
    ]


def test_whoever_waits_is_told_before_every_try() -> None:
    assert len(list(attempts(Disk(5).write, "the report"))) == 5


def test_waiting_is_bounded(clock: list[float]) -> None:
    with pytest.raises(StorageError, match=r"the report could not be written for 10 minutes: .*\n.*repeat the command"):
        write_patiently(Disk(10**9).write, "the report", lambda text: None)
    assert clock[0] == pytest.approx(600, abs=5)


def test_an_error_that_no_waiting_mends_is_not_waited_for() -> None:
    disk = Disk(9, PermissionError(errno.EACCES, "Permission denied", "x"))
    with pytest.raises(PermissionError):
        write_patiently(disk.write, "the report", lambda text: None)
    assert disk.full == 8


def test_a_fault_of_the_storage_ends_a_command_with_a_message() -> None:
    with (
        pytest.raises(StorageError, match=r"runs/x: .*No space left on device.*free space"),
        storage_faults_explained("runs/x"),
    ):
        raise FULL
    with pytest.raises(PermissionError), storage_faults_explained("runs/x"):
        raise PermissionError
