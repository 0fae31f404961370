"""Interruptions of a training and their cost, one line each in interruptions.jsonl of the run's folder."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from mrqm.structures.step_report import StepReport
from pipelines.compute.messages import Interrupted, Started
from pipelines.storage.filesystem import Storage

FILE = "interruptions.jsonl"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Interruption:
    """A completed interruption.

    Attributes:
        time: time of its beginning, ISO 8601, UTC.
        what: description of the cause.
        details: traceback, if the cause was an error.
        step: last optimizer step before the interruption, which the training has reached again.
        seconds_stopped: seconds from that step until the first step after the restart.
        seconds_lost: seconds from that step until it was reached again.
    """

    time: str
    what: str
    details: str
    step: int
    seconds_stopped: float
    seconds_lost: float


@dataclass(frozen=True)
class _Open:
    """An interruption that is not completed."""

    begun: float
    cause: Interrupted
    resumed: float | None = None


class Interruptions:
    """Interruptions of a run and the seconds lost, over all commands that resumed it.

    Args:
        storage: storage of the run.
        resumed: true if an earlier command began the run, whose end counts as an interruption.

    Attributes:
        restarts: number of interruptions until now.
        seconds_lost: seconds lost until now.
        stopped: true between a failure of workers and their restart.
    """

    def __init__(self, storage: Storage, resumed: bool) -> None:
        self._storage = storage
        self._lines = (storage.read(FILE) or b"").decode()
        known = [json.loads(line) for line in self._lines.splitlines()]
        self._step, self._seen = max((line["step"] for line in known), default=0), time.time()
        self.restarts, self.seconds_lost = len(known), sum(line["seconds_lost"] for line in known)
        self._open = _Open(self._seen, Interrupted("resumed by a new command")) if resumed else None
        self._running, self.stopped = resumed, False

    def interrupted(self, event: Interrupted) -> bool:
        """Record a failure of workers; return false if Ray only repeats it while it waits for the end of a node."""
        self.stopped = True
        if self._open is None:
            self._open = _Open(self._seen, event)
            return True
        return self._open.cause.text != event.text

    def started(self, event: Started) -> None:
        """Record a start of workers; without a failure before, Ray replaced them because the cluster changed."""
        if self._running and self._open is None:
            self._open = _Open(self._seen, Interrupted(f"workers were replaced, there are {event.workers} now"))
        self._running, self.stopped = True, False

    def passed(self, report: StepReport) -> Interruption | None:
        """Record an optimizer step; return the interruption that it completes."""
        now = time.time()
        before = self._open
        if before is not None and before.resumed is None:
            before = self._open = replace(before, resumed=now)
        if before is not None and report.step < self._step:
            return None
        over = self._close(before, now) if before is not None else None
        self._open, self._step, self._seen = None, report.step, now
        return over

    def _close(self, before: _Open, now: float) -> Interruption:
        over = Interruption(
            time=datetime.fromtimestamp(before.begun, UTC).isoformat(timespec="seconds"),
            what=before.cause.text,
            details=before.cause.details,
            step=self._step,
            seconds_stopped=(before.resumed or now) - before.begun,
            seconds_lost=now - before.begun,
        )
        self._keep(over)
        return over

    def _keep(self, interruption: Interruption) -> None:
        self.restarts += 1
        self.seconds_lost += interruption.seconds_lost
        self._lines += json.dumps(asdict(interruption)) + "\n"
        try:
            self._storage.write(FILE, self._lines)
        except OSError as error:  # the next one writes all of them
            logger.warning("%s of %s could not be written: %s", FILE, self._storage.url, error)
