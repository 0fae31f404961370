"""Child processes of tests."""

from __future__ import annotations

import contextlib
import re

import psutil

WORKER = re.compile("RayTrainWorker")


def running(name: re.Pattern[str]) -> list[int]:
    """List the ids of this process's descendants with a matching command line."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # processes may end meanwhile
            if name.search(" ".join(process.cmdline())):
                found.append(process.pid)
    return found


def worker() -> int:
    """Return the process id of a training worker."""
    found = running(WORKER)
    assert found, "no worker"
    return found[0]
