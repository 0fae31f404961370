"""Processes that tests start."""

from __future__ import annotations

import contextlib
import re

import psutil

WORKER = re.compile("RayTrainWorker")


def running(name: re.Pattern[str]) -> list[int]:
    """The processes that this one started, itself or through others, and that have such a name."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # processes end while they are looked at
            if name.search(" ".join(process.cmdline())):
                found.append(process.pid)
    return found


def worker() -> int:
    """The process of a training worker."""
    found = running(WORKER)
    assert found, "no worker"
    return found[0]
