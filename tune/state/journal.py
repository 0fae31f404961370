"""The journal of a sweep: a file that keeps all events, even if the driver is killed.

Searcher, scheduler, tables and reports depend on it alone, so that a resumed sweep equals an uninterrupted one.
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
    """A history whose entries are on disk before they take effect.

    Args:
        path: path of the file, which need not exist yet.

    Attributes:
        listeners: functions that are called with every entry that is written.

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
        """Append an entry, which is on disk when this returns.

        Raises:
            StorageError: the disk was full, or unavailable, for too long.
        """
        line = redact(entry.model_dump_json()).encode() + b"\n"
        write_patiently(partial(self._append, line), self._path.name, logger.warning)
        self.follow(entry)
        for listener in self.listeners:
            listener(entry)

    def close(self) -> None:
        """Close the file; nothing can be written afterwards."""
        self._file.close()

    def _append(self, line: bytes) -> None:
        """Append a whole line or nothing; after an error the file is opened again and truncated to whole lines."""
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
    """Read the history from a journal that another process may be writing."""
    return History(_read(path)[0])


def _read(path: Path) -> tuple[list[AnyEntry], int]:
    """Read the entries, and the bytes of whole lines: a driver that died may have left half a line."""
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
