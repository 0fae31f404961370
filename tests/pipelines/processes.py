"""Processes that a training starts."""

from __future__ import annotations

import contextlib
from pathlib import Path


def worker_of(driver: int) -> int:
    """The process of a training worker under a driver."""
    found = workers_of(driver)
    assert found, f"no worker under {driver}"
    return found[0]


def workers_of(driver: int) -> list[int]:
    """The processes of all training workers under a driver."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found = []
    for pid in parents:
        with contextlib.suppress(OSError):
            above = pid
            while above in parents and above != driver:
                above = parents[above]
            if above == driver and "RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_text():
                found.append(pid)
    return found
