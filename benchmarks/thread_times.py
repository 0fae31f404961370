"""Processor times of the threads of a command."""

from __future__ import annotations

import contextlib
import math
import subprocess
import time
from dataclasses import dataclass, field

import psutil

SECONDS_BETWEEN_SAMPLES = 3.0


@dataclass
class ThreadTimes:
    """Samples of the processor time of all threads of a command and its child processes.

    Attributes:
        command: process of the command.
        samples: times in seconds since 1970, each with the processor seconds of every thread by its id.
    """

    command: subprocess.Popen[bytes]
    samples: list[tuple[float, dict[int, float]]] = field(default_factory=list)

    def sample(self) -> None:
        """Sample the processor time of every thread, unless the last sample is recent."""
        if self.samples and time.time() - self.samples[-1][0] < SECONDS_BETWEEN_SAMPLES:
            return
        seconds = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.command.pid)
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    seconds |= {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
        self.samples.append((time.time(), seconds))

    def computing(self, first: float, last: float) -> float:
        """Compute the share of a time span in which the busiest thread computed.

        Args:
            first: beginning in seconds since 1970.
            last: end in seconds since 1970.

        Returns:
            The share, 0 to 1; NaN for a span with fewer than two samples.
        """
        within = [(moment, seconds) for moment, seconds in self.samples if first <= moment <= last and seconds]
        if len(within) < 2:
            return math.nan
        (begin, before), (end, after) = within[0], within[-1]
        return max(after[thread] - before.get(thread, 0.0) for thread in after) / (end - begin)
