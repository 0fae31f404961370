"""Text files as lines."""

from __future__ import annotations

from pathlib import Path

from mrqm.structures.annotations import DataError


def read_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 file, with or without a byte order mark.

    Raises:
        DataError: the file is not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file: {error}") from error
