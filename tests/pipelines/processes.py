"""Processes that a training starts."""

from __future__ import annotations

import contextlib
import re

import psutil

WORKER = re.compile("RayTrainWorker")


def processes_below(pid: int, name: re.Pattern[str]) -> list[int]:
    """The processes that a process started, itself or through others, and that have such a name."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # processes end while they are looked at
                if name.search(" ".join(process.cmdline())):
                    found.append(process.pid)
    return found


def workers_of(driver: int) -> list[int]:
    """The processes of all training workers under a driver."""
    return processes_below(driver, WORKER)


def worker_of(driver: int) -> int:
    """The process of a training worker under a driver."""
    found = workers_of(driver)
    assert found, f"no worker under {driver}"
    return found[0]
