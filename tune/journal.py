"""The journal of a sweep: a file that remembers everything, whatever kills the driver.

Searcher, scheduler, tables and reports follow from it alone: a sweep that goes on is the sweep that was stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tune.entries import ENTRY, AnyEntry
from tune.history import History


class JournalError(ValueError):
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
        self._file = path.open("ab")
        self._file.truncate(whole_bytes)

    def write(self, entry: AnyEntry) -> None:
        """Append a line; it is on disk when this returns."""
        self._file.write(entry.model_dump_json().encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.follow(entry)
        for listener in self.listeners:
            listener(entry)

    def close(self) -> None:
        """Nothing will be written any more."""
        self._file.close()


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
