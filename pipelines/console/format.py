"""Numbers, durations and commands as text."""

from __future__ import annotations

import math
import os
import shutil
import sys
from pathlib import Path

from pipelines.process.job_cwd import JOB

SECONDS_BETWEEN_LINES = 10.0
"""Interval between lines of progress in a log."""


def number(value: float) -> str:
    """Format a metric with three decimals; NaN as a dash."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Format seconds as minutes and seconds, with hours if there are any: `04:10`, `2:04:10`."""
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def command(name: str) -> str:
    """Return the command that calls a program of this environment; in a submitted job, `mrqm submit --`."""
    if name == "mrqm" and JOB in os.environ:
        return "mrqm submit --"
    here = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    return name if found and Path(found) == here else relative(here)


def relative(path: str | Path) -> str:
    """Make a path relative to the working directory if it is inside; else return it unchanged."""
    path = Path(path)
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
