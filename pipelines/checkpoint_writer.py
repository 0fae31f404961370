"""Writes checkpoints beside the training: only copying the weights takes the training's time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from mrqm.checkpoint import Snapshot
from pipelines.checkpoints import CheckpointStore
from pipelines.storage import StorageError

logger = logging.getLogger(__name__)


class CheckpointWriter:
    """Writes to a store in a thread, one thing after another.

    A checkpoint that cannot be written is said and does not end the training: an older one is there, and the next may
    succeed. Only the last one has to.

    Args:
        store: of the run.
        saved: called in the thread with the name of each checkpoint that is written.
    """

    def __init__(self, store: CheckpointStore, saved: Callable[[str], None]) -> None:
        self._store, self._saved = store, saved
        self._pool = ThreadPoolExecutor(1, "checkpoints")
        self._latest: Future[None] | None = None
        self._failure: OSError | None = None

    def write(self, name: str, take: Callable[[], Snapshot]) -> None:
        """Take a snapshot and write it; waits first for the one before, so that only one is in memory."""
        if self._latest is not None:
            self._latest.result()
        self._latest = self._pool.submit(self._write, name, take())

    def score(self, name: str, metrics: Mapping[str, float]) -> None:
        """Add what a checkpoint scored."""
        self._latest = self._pool.submit(self._score, name, metrics)

    def close(self) -> None:
        """Wait until everything is written.

        Raises:
            StorageError: the last checkpoint could not be.
        """
        self._pool.shutdown()
        if self._latest is not None:
            self._latest.result()
        if self._failure is not None:
            raise StorageError(
                f"the last checkpoint could not be written: {self._failure}\nmake room or mend the place; the same "
                "command goes on from the checkpoint before"
            )

    def _write(self, name: str, snapshot: Snapshot) -> None:
        try:
            self._store.write(name, snapshot)
        except OSError as failure:
            self._failure = failure
            logger.warning("checkpoint %s could not be written, the training goes on without it: %s", name, failure)
            return
        self._failure = None
        self._saved(name)

    def _score(self, name: str, metrics: Mapping[str, float]) -> None:
        if self._failure is not None:
            return
        try:
            self._store.score(name, metrics)
            self._store.prune()
        except OSError as failure:
            self._failure = failure
            logger.warning("the scores of checkpoint %s could not be kept: %s", name, failure)
