"""Disks that are full."""

from __future__ import annotations

from pathlib import Path

import pytest


def fill(disk: Path) -> Path:
    """Leave no room on a disk, or none again where something was removed; returns the file that takes it."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(2**20))
    return filler
