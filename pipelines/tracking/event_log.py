"""The journal of a run's reports, a file in the run's folder: no report is lost or repeated while MLflow is away.

A training only appends to it, which takes microseconds; `pipelines.tracking.uploader` sends it from a separate thread.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mrqm.errors import UserError
from mrqm.files import write_all
from mrqm.redaction import redact

FILE = "journal.jsonl"

logger = logging.getLogger(__name__)


EndStatus: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]


class JournalError(UserError):
    """A journal that cannot be read."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Metrics(_Entry):
    """Finite metrics at an optimizer step; `time` in milliseconds since 1970."""

    kind: Literal["metrics"] = "metrics"
    time: int
    step: int
    values: dict[str, float]


class Tags(_Entry):
    """Tags of the MLflow run."""

    kind: Literal["tags"] = "tags"
    values: dict[str, str]


class Artifact(_Entry):
    """A file of the run's folder, by its relative path, and the artifact folder for it."""

    kind: Literal["artifact"] = "artifact"
    file: str
    folder: str | None = None


class DatasetUsed(_Entry):
    """Data that the run was trained or validated on.

    Attributes:
        context: "training" or "validation".
        name: name for display.
        digest: digest of images and annotations.
        source: path or URI of the data.
        counts: numbers of images, items and objects, from `DetectionDataset.describe`.
    """

    kind: Literal["dataset"] = "dataset"
    context: Literal["training", "validation"]
    name: str
    digest: str
    source: str
    counts: dict[str, int]


class Status(_Entry):
    """Status of the MLflow run: RUNNING, or the way it ended."""

    kind: Literal["status"] = "status"
    time: int
    status: EndStatus | Literal["RUNNING"]


Entry: TypeAlias = Metrics | Tags | Artifact | DatasetUsed | Status
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


class Journal:
    """The journal in a run's folder, safe to write and read from several threads.

    An incomplete last line, left by a killed process, is truncated; metrics that a restarted training reports again,
    for the steps after its checkpoint, are skipped.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.size = 0
        self._unwritten = b""
        self._lock = threading.Lock()
        self._last_steps: dict[str, int] = {}
        self._contexts: set[str] = set()
        self.path.touch()
        for entry, position in self.read():
            self._remember(entry)
            self.size = position
        os.truncate(self.path, self.size)

    def add(self, entry: Entry) -> None:
        """Append an entry; while the disk is full, entries are kept in memory."""
        with self._lock:
            is_news = not self._unwritten
            self._unwritten += redact(entry.model_dump_json()).encode() + b"\n"
            self._remember(entry)
            try:
                self._write()
            except OSError as error:
                if is_news:
                    reason = error.strerror
                    logger.warning("%s: %s; reports stay in memory until it can be written", self.path, reason)

    def flush(self) -> None:
        """Write the entries that are kept in memory.

        Raises:
            OSError: the disk is still full.
        """
        with self._lock:
            self._write()

    def _write(self) -> None:
        """Append the unwritten entries, after truncating the remains of a failed attempt."""
        if not self._unwritten:
            return
        with self.path.open("ab", buffering=0) as file:
            file.truncate(self.size)
            write_all(file, self._unwritten)
        self.size += len(self._unwritten)
        self._unwritten = b""

    def add_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Append the metrics that were not yet reported at this step or a later one.

        Args:
            values: metrics by name.
            step: optimizer steps of the run.
        """
        fresh = {name: value for name, value in values.items() if step > self._last_steps.get(name, -1)}
        if fresh:
            self.add(Metrics(time=now(), step=step, values=fresh))

    def has_dataset(self, context: str) -> bool:
        """Return true if the data for a context, "training" or "validation", is in the journal."""
        return context in self._contexts

    def read(self, position: int = 0) -> Iterator[tuple[Entry, int]]:
        """Iterate over the entries from a byte position on, each with the position after it.

        Raises:
            JournalError: the file is damaged.
        """
        with self.path.open("rb") as file:
            file.seek(position)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # being written
                try:
                    entry = _ENTRY.validate_json(line)
                except ValidationError as error:
                    raise JournalError(
                        f"{self.path}: damaged at byte {position}; remove the file to continue: reports already sent "
                        "to MLflow stay there"
                    ) from error
                position += len(line)
                yield entry, position

    def _remember(self, entry: Entry) -> None:
        match entry:
            case Metrics():
                self._last_steps.update(dict.fromkeys(entry.values, entry.step))
            case DatasetUsed():
                self._contexts.add(entry.context)


def now() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)
