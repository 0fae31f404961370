"""What becomes of workers that fail: they are started again from the latest checkpoint, or not, where that is no use.

Workers wrap what they raise in a `WorkerFailure`; the `Judge` sees it in Ray Train's controller, beside workers that
simply died. Ray Train itself would start them again after any error, a fixed number of times in the whole run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch.distributed as dist
from ray.exceptions import RayActorError, RayError
from ray.train import UserCallback

from pipelines.checkpoints import CheckpointStore
from pipelines.errors import is_users_error
from pipelines.events import Interrupted, Line
from pipelines.storage import open_storage

RESTARTS = 3
"""How often workers are started again without having come to another checkpoint."""


class TrainingError(ValueError):
    """A training that cannot go on, although its configuration seems usable."""


class WorkerFailure(Exception):  # noqa: N818 - it is what an error becomes on its way
    """What a worker raised.

    Attributes:
        error: as it was raised.
        step: optimizer steps taken until then; None if it came to none.
        details: where it was raised.
    """

    def __init__(self, error: Exception, step: int | None, details: str) -> None:
        super().__init__(error, step, details)
        self.error, self.step, self.details = error, step, details

    def __str__(self) -> str:
        at = "" if self.step is None else f" after step {self.step}"
        return f"{type(self.error).__name__}{at}: {_first_line(self.error)}"

    @property
    def lost_peer(self) -> bool:
        """Whether it only tells that another worker is gone."""
        return isinstance(self.error, dist.DistError | RayError) or "gloo/" in str(self.error)

    @property
    def passes(self) -> bool:
        """Whether it may pass when the worker is started again: disks, networks, devices; errors of code do not."""
        return isinstance(self.error, RuntimeError | OSError | RayError)

    @property
    def signature(self) -> tuple[str, int | None]:
        """The same for the same error at the same step, whatever addresses and sizes its text names."""
        return re.sub(r"\d+", "0", f"{type(self.error).__name__} {self.error}"), self.step


class Judge(UserCallback):
    """Tells the driver at once why workers failed, and ends the training when starting them again is no use.

    That is after an error that the user has to mend, one of the program, the same one twice at the same step, or when
    they failed too often since the latest checkpoint.

    Args:
        line: to the driver.
        output, name: of the run.
    """

    def __init__(self, line: Line, output: str, name: str) -> None:
        self._line, self._output, self._name = line, output, name
        self._before: set[tuple[str, int | None]] = set()
        self._newest: list[str] = []
        self._in_a_row = 0

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Runs in Ray Train's controller; what it raises ends the training."""
        own = {rank: error for rank, error in worker_exceptions.items() if isinstance(error, WorkerFailure)}
        causes = {rank: error for rank, error in own.items() if not error.lost_peer}
        self._line.send_later(_tell(worker_exceptions, causes))
        if any(_was_preempted(error) for error in worker_exceptions.values()):
            return
        for rank, failure in causes.items():
            if is_users_error(failure.error):
                raise failure.error
            if not failure.passes:
                raise TrainingError(f"worker {rank} failed with an error of the program: {failure}\n{failure.details}")
            if failure.signature in self._before:
                raise TrainingError(
                    f"worker {rank} failed twice in the same way, so it is not started again: {failure}\n"
                    f"{failure.details}"
                )
        self._before = {failure.signature for failure in causes.values()}
        self._count(worker_exceptions)

    def _count(self, worker_exceptions: Mapping[int, Exception]) -> None:
        newest = self._newest_checkpoint()
        self._in_a_row = self._in_a_row + 1 if newest == self._newest else 1
        self._newest = newest
        if self._in_a_row > RESTARTS:
            since = f"checkpoint {newest[0]}" if newest else "the beginning"
            rank, error = min(worker_exceptions.items())
            raise TrainingError(
                f"workers failed {self._in_a_row} times since {since}, so they are not started again; worker {rank} "
                f"the last time: {_first_line(error)}\nthe same command goes on from {since}"
            )

    def _newest_checkpoint(self) -> list[str]:
        try:
            return CheckpointStore(open_storage(self._output, self._name), keep=1).newest_first()[:1]
        except OSError:  # the storage may be what is away
            return self._newest


def _tell(failed: Mapping[int, Exception], causes: Mapping[int, WorkerFailure]) -> Interrupted:
    """Of several that failed the one that began it: an error of its own, else a death, else a lost connection."""
    dead = {rank: error for rank, error in failed.items() if not isinstance(error, WorkerFailure)}
    if causes:
        rank, cause = min(causes.items())
        return Interrupted(f"worker {rank} failed: {cause}", cause.details)
    if dead:
        rank, death = min(dead.items())
        return Interrupted(f"worker {rank} died" + (" with its node" if _was_preempted(death) else ""), str(death))
    rank, lost = min(failed.items())
    return Interrupted(f"worker {rank} lost the others: {_first_line(lost)}")


def _was_preempted(error: Exception) -> bool:
    """Whether a worker died because its node was taken away, as was announced."""
    cause = getattr(error, "health_check_failure", error)
    return isinstance(cause, RayActorError) and cause.preempted


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
