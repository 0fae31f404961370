"""The checkpoints of a run, listed from its folder and from nothing else.

`epoch_0003` is after three epochs, `epoch_0003_step_000350` within the fourth. A checkpoint is a folder with all of its
files; a killed writer or a full disk leaves none. Ray Train's own checkpoint index is not used: it is one file that is
overwritten in place, and a run could not resume without it or without one of the folders that it lists.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from mrqm.checkpoint.files import CONFIG, FILES, METRICS
from mrqm.checkpoint.lookup import NAME, best_of, newest_first, position, score_of
from pipelines.storage.filesystem import Storage

if TYPE_CHECKING:
    from mrqm.checkpoint.folder import Snapshot

logger = logging.getLogger(__name__)


def checkpoint_name(epochs: int, step: int | None = None) -> str:
    """Name the folder of a checkpoint.

    Args:
        epochs: completed epochs.
        step: optimizer steps of the run, for a checkpoint within an epoch; None at the end of one.

    Returns:
        `epoch_0003` or `epoch_0003_step_000350`.
    """
    return f"epoch_{epochs:04d}" + ("" if step is None else f"_step_{step:06d}")


def epochs_of(name: str) -> int:
    """Return the number of epochs completed at a checkpoint."""
    return int(name.split("_")[1])


def ends_epoch(name: str) -> bool:
    """Return true for a checkpoint at the end of an epoch, false for one within an epoch."""
    return "_step_" not in name


class CheckpointStore:
    """Checkpoints of one run, to write, list and remove.

    Args:
        storage: the run's folder.
        keep: number of best checkpoints to keep, in addition to the newest.
        evaluate_every: epochs between evaluations; a checkpoint that is still to be evaluated is kept too.
    """

    def __init__(self, storage: Storage, keep: int, evaluate_every: int = 1) -> None:
        self._storage, self._keep, self._evaluate_every = storage, keep, evaluate_every

    def newest_first(self) -> list[str]:
        """List the names of all complete checkpoints, the newest first."""
        return [name for name, files in self._folders().items() if files >= set(FILES)]

    def write(self, name: str, snapshot: Snapshot) -> None:
        """Write a checkpoint, replacing one of the same name, and remove those that are no longer kept.

        Args:
            name: name of the checkpoint's folder, from `checkpoint_name`.
            snapshot: state of the training.

        Raises:
            OSError: the storage is full or unreachable; no incomplete checkpoint remains.
        """
        with self._storage.scratch_folder(name) as folder:
            snapshot.write(folder)
            self._storage.upload_folder(folder, name, last=CONFIG)
        self.prune()

    def score(self, name: str, metrics: Mapping[str, float]) -> None:
        """Add evaluation metrics to a checkpoint.

        Args:
            name: name of the checkpoint's folder.
            metrics: metrics by name, such as `coco/AP`.
        """
        self._storage.write(f"{name}/{METRICS}", json.dumps({**self.metrics(name), **metrics}, indent=2))

    def metrics(self, name: str) -> dict[str, float]:
        """Read a checkpoint's metrics: mean losses of its epoch and, once it is evaluated, its scores."""
        content = self._storage.read(f"{name}/{METRICS}")
        return json.loads(content) if content else {}

    def open(self, name: str) -> AbstractContextManager[Path]:
        """Provide a checkpoint's folder on this machine while the context is open."""
        return self._storage.folder_on_disk(name)

    def best(self) -> str | None:
        """Return the checkpoint with the highest score, the newest among equals; None if none was evaluated."""
        return best_of({name: self._score(name) for name in self.newest_first()})

    def waiting(self) -> list[str]:
        """List the checkpoints that are still to be evaluated, the oldest first."""
        return [name for name in reversed(self.newest_first()) if self._waits(name)]

    def prune(self) -> None:
        """Remove incomplete checkpoints, and all but the best, the newest and those still to be evaluated."""
        names = self.newest_first()
        ranked = sorted(names, key=self._rank, reverse=True)
        kept = {*ranked[: self._keep], *names[:1], *filter(self._waits, names)}
        for name in self._folders():
            if name not in kept:
                try:
                    self._storage.delete_folder(name)
                except OSError as failure:  # the next one tries again
                    logger.warning("checkpoint %s is no longer needed but could not be removed: %s", name, failure)

    def _folders(self) -> dict[str, set[str]]:
        """List the files of every checkpoint's folder, the newest first."""
        found: dict[str, set[str]] = {}
        for path in self._storage.list_files():
            name, _, file = path.partition("/")
            if file and NAME.fullmatch(name):
                found.setdefault(name, set()).add(file)
        return {name: found[name] for name in newest_first(found)}

    def _waits(self, name: str) -> bool:
        return ends_epoch(name) and epochs_of(name) % self._evaluate_every == 0 and self._score(name) is None

    def _score(self, name: str) -> float | None:
        return score_of(self.metrics(name))

    def _rank(self, name: str) -> tuple[bool, float, tuple[int, int]]:
        score = self._score(name)
        return score is not None, score or 0.0, position(name)
