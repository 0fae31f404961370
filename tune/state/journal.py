"""The journal of a sweep: a file that remembers everything, whatever kills the driver.

Searcher, scheduler, tables and reports follow from it alone: a sweep that goes on is the sweep that was stopped.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mrqm.errors import UserError
from mrqm.files import write_all
from mrqm.redaction import redact
from pipelines.failures.storage_wait import write_patiently
from tune.state.history import History
from tune.state.records import ENTRY, AnyEntry

JOURNAL = "sweep.jsonl"

logger = logging.getLogger(__name__)


class JournalError(UserError):
    """A journal that cannot be read."""


class Journal(History):
    """A history that is on disk before anybody acts on it.

    Args:
        path: of the file; there need be none yet.

    Attributes:
        listeners: called with every entry that is written.

    Raises:
        JournalError: a line that is not the last is damaged.
    """

    def __init__(self, path: Path) -> None:
        entries, whole_bytes = _read(path)
        super().__init__(entries)
        self.listeners: list[Callable[[AnyEntry], None]] = []
        self._path, self._bytes = path, whole_bytes
        self._file = self._open()

    def write(self, entry: AnyEntry) -> None:
        """Append a line; it is on disk when this returns.

        Raises:
            StorageError: the disk was full, or away, for longer than anybody waits.
        """
        line = redact(entry.model_dump_json()).encode() + b"\n"
        write_patiently(partial(self._append, line), self._path.name, logger.warning)
        self.follow(entry)
        for listener in self.listeners:
            listener(entry)

    def close(self) -> None:
        """Nothing will be written any more."""
        self._file.close()

    def _append(self, line: bytes) -> None:
        """Append a line, all of it or nothing; after an error the file is opened anew, without what came of it."""
        if self._file.closed:
            self._file = self._open()
        try:
            write_all(self._file, line)
            os.fsync(self._file.fileno())
        except OSError:
            self._file.close()
            raise
        self._bytes += len(line)

    def _open(self) -> io.FileIO:
        file = self._path.open("ab", buffering=0)
        file.truncate(self._bytes)
        return file


def read_history(path: Path) -> History:
    """What a journal says that somebody else may be writing."""
    return History(_read(path)[0])


def _read(path: Path) -> tuple[list[AnyEntry], int]:
    """Entries, and the bytes of whole lines: a driver that died may have left half a line."""
    entries: list[AnyEntry] = []
    whole_bytes = 0
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
        if not line.endswith(b"\n"):
            break
        try:
            entries.append(ENTRY.validate_json(line))
        except ValueError as error:
            raise JournalError(f"{path}: line {len(entries) + 1} is damaged: {error}") from error
        whole_bytes += len(line)
    return entries, whole_bytes
