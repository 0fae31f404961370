"""Text files as lines, and files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

from mrqm.data.records import DataError


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, with or without a byte order mark; `DataError` if it is not text."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file: {error}") from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, so that it appears whole or not at all, whenever the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(path)


def part_of(path: Path) -> Path:
    """Where a file is written before it takes its name."""
    return path.with_name(f".{path.name}.part")
