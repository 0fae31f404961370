"""The folder of a run, from which the same command resumes it.

runs/demo/
  config.yaml          configuration of the first command, for reference
  fingerprint.json     identity of the run, see `pipelines.storage.fingerprint`
  mlflow.json          id of its MLflow run
  epoch_0007/          checkpoints, see `pipelines.storage.checkpoints`
  journal.jsonl        all reported events, from which they are sent to MLflow
  samples/             training images as augmented, before the first step
  pictures/, queries/  detections beside ground truth, and the positions of queries, after each evaluation
  curves.png           loss and AP over the whole run
  interruptions.jsonl      interruptions and their cost
  summary.json         written last: marks a run as finished

For a run in an object store, the journal, the pictures and the lock are in a local folder of this machine.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from humanize import naturalsize

from mrqm.config import Config
from mrqm.errors import UserError
from mrqm.files import write_whole
from pipelines.storage.checkpoints import CheckpointStore
from pipelines.storage.filesystem import StorageError, open_storage
from pipelines.storage.run_summary import Summary


class RunError(UserError):
    """A run that cannot begin or resume under its name."""


class RunFolder:
    """Folder of one run, `output_dir`/`name`.

    Attributes:
        storage: storage of the run.
        checkpoints: checkpoints of the run.
        path: folder on this machine: the storage itself or, for an object store, a local folder beside it.

    Raises:
        StorageError: `output_dir` cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self.storage = open_storage(config.output_dir, config.name)
        self.checkpoints = CheckpointStore(
            self.storage, config.train.num_checkpoints_to_keep, config.train.evaluate_every
        )
        self.path = self.storage.local or _place_beside(self.storage.url)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Lock the folder for this process; folders that stay empty are removed again.

        Raises:
            RunError: another process of this machine trains here.
            StorageError: the folder cannot be written.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.storage.require_writable()
            self.path.mkdir(parents=True, exist_ok=True)
            with self._locked():
                yield
        finally:
            for folder in made:
                with suppress(OSError):  # it is not there, or not empty
                    folder.rmdir()
            if self.storage.local is None and not self.storage.list_files():
                self.storage.delete()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.path / ".lock"
        lock = FileLock(path, timeout=0)
        try:
            acquired = lock.acquire()
        except Timeout as error:
            raise RunError(f"run {self.path.name} in {self.storage.url} is being trained by another process") from error
        with acquired:
            try:
                yield
            finally:
                if list(self.path.iterdir()) == [path]:
                    path.unlink()

    def require_space(self, needed: int, checkpoint: int) -> None:
        """Check, on disks, that the checkpoints have room.

        Args:
            needed: bytes that are still to be written.
            checkpoint: bytes of one checkpoint.

        Raises:
            StorageError: the disk has too little free space.
        """
        free = self.storage.free_bytes()
        if free is not None and free < needed:
            raise StorageError(
                f"output_dir={self.storage.url}: {naturalsize(free)} are free, and checkpoints need "
                f"{naturalsize(needed)} ({naturalsize(checkpoint)} each); make room, set another folder or "
                "lower train.num_checkpoints_to_keep"
            )

    def read_summary(self) -> Summary | None:
        """Read the summary of a finished run, with its current paths: the folder may have been moved."""
        content = self.storage.read("summary.json")
        if not content:
            return None
        summary = Summary(**json.loads(content))
        places = {
            name: place.replace(summary.folder, self.storage.url, 1)
            for name in ("folder", "checkpoint", "picture")
            if (place := getattr(summary, name)) is not None
        }
        return replace(summary, **places)

    def write_summary(self, summary: Summary) -> None:
        """Mark the run as finished."""
        self._write_json("summary.json", asdict(summary))

    def read_mlflow_run(self, tracking_uri: str) -> str | None:
        """Read the id of the run's MLflow run in a store; None if it has none there."""
        content = self.storage.read("mlflow.json")
        return json.loads(content).get(tracking_uri) if content else None

    def write_mlflow_run(self, tracking_uri: str, run_id: str) -> None:
        """Store the id of the run's MLflow run.

        Args:
            tracking_uri: URI of the MLflow store.
            run_id: id of the MLflow run.
        """
        self._write_json("mlflow.json", {tracking_uri: run_id})

    def picture(self, epoch: int, kind: str = "pictures") -> Path:
        """Return the path of an epoch's picture, which need not exist.

        Args:
            epoch: number of the epoch.
            kind: `samples`, `pictures` or `queries`.

        Returns:
            Path of a PNG file on this machine.
        """
        return self.path / kind / f"epoch_{epoch:04d}.png"

    def file_here(self, name: str) -> Path:
        """Provide a small file of the run on this machine."""
        path = self.path / name
        if self.storage.local is None:
            write_whole(path, self.storage.read(name) or b"")
        return path

    def write_picture(self, epoch: int, png: bytes, kind: str = "pictures") -> Path:
        """Write an epoch's picture.

        Args:
            epoch: number of the epoch.
            png: content of the PNG file.
            kind: `samples`, `pictures` or `queries`.

        Returns:
            Path of the file on this machine.
        """
        path = self.picture(epoch, kind)
        write_whole(path, png)
        return path

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        self.storage.write(name, json.dumps(value, indent=2) + "\n")


def _place_beside(url: str) -> Path:
    """Return this machine's local folder for a run in an object store."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / "mrqm" / f"{url.rpartition('/')[2]}-{digest}"
