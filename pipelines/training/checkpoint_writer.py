"""Asynchronous writing of checkpoints: the training waits only for the copy of the weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from mrqm.checkpoint.folder import Snapshot
from pipelines.failures.policy import PATIENCE
from pipelines.failures.storage_wait import write_patiently
from pipelines.storage.checkpoints import CheckpointStore

logger = logging.getLogger(__name__)


class CheckpointWriter:
    """Asynchronous writer of checkpoints and scores, in order, in a thread.

    A failed write is logged and does not end the training, since an older checkpoint exists and the next one may
    succeed. Only the last one must be written, and is retried. Scores are kept in memory until they can be written.

    Args:
        store: checkpoints of the run.
        saved: callback, in the thread, with the name of each written checkpoint.
        patience: seconds to wait for the storage at the end.
    """

    def __init__(self, store: CheckpointStore, saved: Callable[[str], None], patience: float = PATIENCE) -> None:
        self._store, self._saved, self._patience = store, saved, patience
        self._pool = ThreadPoolExecutor(1, "checkpoints")
        self._latest: Future[None] | None = None
        self._unwritten: tuple[str, Snapshot] | None = None
        self._scores: dict[str, Mapping[str, float]] = {}

    def write(self, name: str, take: Callable[[], Snapshot]) -> None:
        """Take a snapshot and write it, after the previous one, so that only one is in memory.

        Args:
            name: name of the checkpoint's folder.
            take: function that copies the state of the training.
        """
        if self._latest is not None:
            self._latest.result()
        if self._unwritten is not None:
            self._scores.pop(self._unwritten[0], None)
            self._unwritten = None
        self._latest = self._pool.submit(self._write, name, take())

    def score(self, name: str, metrics: Mapping[str, float]) -> None:
        """Add evaluation metrics to a checkpoint.

        Args:
            name: name of the checkpoint's folder.
            metrics: metrics by name, such as `coco/AP`.
        """
        self._latest = self._pool.submit(self._score, name, metrics)

    def close(self) -> None:
        """Wait until everything is written.

        Raises:
            StorageError: the last checkpoint or its scores could not be written within `patience` seconds.
        """
        self._pool.shutdown()
        if self._latest is not None:
            self._latest.result()
        if self._unwritten is not None:
            name, snapshot = self._unwritten
            write = partial(self._store.write, name, snapshot)
            write_patiently(write, f"the last checkpoint, {name},", logger.warning, self._patience)
            self._unwritten = None
            self._saved(name)
        write_patiently(self._write_scores, "the metrics of checkpoints", logger.warning, self._patience)

    def _write(self, name: str, snapshot: Snapshot) -> None:
        try:
            self._store.write(name, snapshot)
        except OSError as failure:
            self._unwritten = name, snapshot
            logger.warning("checkpoint %s could not be written, the training continues without it: %s", name, failure)
            return
        self._saved(name)

    def _score(self, name: str, metrics: Mapping[str, float]) -> None:
        self._scores[name] = metrics
        if self._unwritten is not None:
            return
        try:
            self._write_scores()
        except OSError as failure:
            logger.warning("the metrics of checkpoint %s are kept until they can be written: %s", name, failure)

    def _write_scores(self) -> None:
        for name in list(self._scores):
            self._store.score(name, self._scores[name])
            del self._scores[name]
        self._store.prune()
