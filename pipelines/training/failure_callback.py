"""The failure policy as a callback of Ray Train, called whenever workers fail."""

from __future__ import annotations

import time
from typing import Any, NoReturn

from ray.train import UserCallback

from mrqm.errors import UserError
from pipelines.compute.message_queue import MessageQueue
from pipelines.compute.messages import Interrupted
from pipelines.failures.classification import WorkerFailure, classify
from pipelines.failures.policy import Decision, FailurePolicy
from pipelines.failures.taxonomy import OUT_OF_MEMORY_REMEDY, Failure, FailureKind, TrainingError, root_cause
from pipelines.storage.checkpoints import CheckpointStore
from pipelines.storage.filesystem import StorageError


class FailureCallback(UserCallback):
    """Callback that reports failures of workers to the driver, and ends the training if a restart is useless.

    Ray Train itself restarts workers after any error, a fixed number of times in the whole run.

    Args:
        queue: message queue to the driver.
        checkpoints: checkpoints of the run, of which a new one shows progress since the last failure.
    """

    def __init__(self, queue: MessageQueue, checkpoints: CheckpointStore) -> None:
        self._queue, self._checkpoints = queue, checkpoints
        self._policy = FailurePolicy()
        self._earlier: list[Failure] = []
        self._newest: list[str] = []

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Decide between a restart and the end of the training; runs in Ray Train's controller.

        Args:
            run_context: context of Ray Train, unused.
            worker_exceptions: errors of the failed workers by rank.

        Raises:
            UserError: the training ends; a worker's own error, `TrainingError` or `StorageError`.
        """
        rank, failure = root_cause({rank: classify(error) for rank, error in worker_exceptions.items()})
        newest = self._newest_checkpoint()
        if newest != self._newest:
            self._newest, self._earlier = newest, []
        verdict = self._policy.decide(failure, self._earlier)
        self._queue.send_later(Interrupted(_describe(rank, failure, verdict.delay), failure.details))
        if verdict.decision is Decision.RAISE:
            self._raise(rank, failure, verdict.reason, worker_exceptions[rank])
        self._earlier.append(failure)
        time.sleep(verdict.delay)

    def _raise(self, rank: int, failure: Failure, reason: str, error: Exception) -> NoReturn:
        cause = error.error if isinstance(error, WorkerFailure) else error
        if isinstance(cause, UserError):
            raise cause
        if failure.final:
            raise TrainingError(
                f"worker {rank} failed with an error of the program: {_located(failure)}\n{failure.details}"
            )
        since = f"checkpoint {self._newest[0]}" if self._newest else "the beginning"
        hint = f"{OUT_OF_MEMORY_REMEDY}; " if failure.kind is FailureKind.OUT_OF_MEMORY else ""
        kind = StorageError if failure.kind is FailureKind.STORAGE else TrainingError
        raise kind(
            f"worker {rank} {reason} since {since}, so it is not restarted: {_located(failure)}\n"
            f"{hint}repeat the command to resume from {since}"
        )

    def _newest_checkpoint(self) -> list[str]:
        try:
            return self._checkpoints.newest_first()[:1]
        except OSError:  # the storage may be the cause of the failure
            return self._newest


def _describe(rank: int, failure: Failure, delay: float) -> str:
    """Describe a failure for the user, with the same text if Ray reports the same failure again."""
    match failure.kind:
        case FailureKind.PREEMPTED:
            return f"worker {rank} died with its node"
        case FailureKind.PROCESS_LOST:
            return f"worker {rank} died"
        case FailureKind.PEER_LOST:
            return f"worker {rank} lost its connection to the others: {failure.message}"
    again = f"; retrying in {delay:.0f} s" if delay else ""
    return f"worker {rank} failed: {_located(failure)}{again}"


def _located(failure: Failure) -> str:
    """Describe a failure with the step after which it occurred."""
    return failure.message if failure.step is None else f"after step {failure.step}: {failure.message}"
