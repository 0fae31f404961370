"""Atomic writing of files."""

from __future__ import annotations

from io import FileIO
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically: readers see the whole content or none, even if the process is killed.

    Args:
        path: file to write; its folder is created.
        content: text, which is written as UTF-8, or bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(path)


def write_all(file: FileIO, content: bytes) -> None:
    """Write all bytes to an unbuffered file.

    Args:
        file: file opened with `buffering=0`, whose `write` may take only a part.
        content: bytes to write.

    Raises:
        OSError: the system refused a part, for example because the disk is full.
    """
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def part_of(path: Path) -> Path:
    """Return the temporary path that a file is written to before it is renamed."""
    return path.with_name(f".{path.name}.part")
