"""Numbers, durations and commands as text."""

from __future__ import annotations

import math
import os
import shutil
import sys
from pathlib import Path

from pipelines.compute.job_cwd import JOB

SECONDS_BETWEEN_LINES = 10.0
"""Of progress, in a log."""


def number(value: float) -> str:
    """A metric in three digits; a dash for what nothing was there to measure."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Minutes and seconds, with hours when there are any: `04:10`, `2:04:10`."""
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def command(name: str) -> str:
    """A program of this environment as it can be called from here; from where its user is, in a job."""
    if name == "mrqm" and JOB in os.environ:
        return "mrqm submit --"
    here = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    return name if found and Path(found) == here else relative(here)


def relative(path: str | Path) -> str:
    """A path seen from the current folder, if it lies in it."""
    path = Path(path)
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
