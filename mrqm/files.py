"""Files that appear whole or not at all."""

from __future__ import annotations

from io import FileIO
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, so that it appears whole or not at all, whenever the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(path)


def write_all(file: FileIO, content: bytes) -> None:
    """Write all of it to an unbuffered file, or raise what the system says to the part that it did not take."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def part_of(path: Path) -> Path:
    """Where a file is written before it takes its name."""
    return path.with_name(f".{path.name}.part")
