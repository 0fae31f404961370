"""What workers tell the driver while they train, and the line that carries it.

One stream serves the display and MLflow, so that workers need neither a terminal nor a tracking server, its credentials
or a database they can reach.
"""

from __future__ import annotations

import dataclasses
import logging
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import ray
from ray.train import UserCallback
from ray.util.queue import Queue

if TYPE_CHECKING:
    from mrqm.engine import StepReport

SECONDS_BETWEEN_STEPS = 1.0
PROTOCOL: Literal["coco"] = "coco"
"""What validation while training counts by, and the prefix of its metrics."""


@dataclass(frozen=True)
class Started:
    """The workers are ready to train.

    Attributes:
        epoch: epochs already done, above 0 when a run is continued.
        step: steps done within the next one.
        num_parameters: of the model.
        epoch_steps: optimizer steps of an epoch.
    """

    epoch: int
    step: int
    num_parameters: int
    epoch_steps: int


@dataclass(frozen=True)
class Evaluating:
    """Epoch `epoch` is trained and its validation begins."""

    epoch: int


@dataclass(frozen=True)
class EpochReport:
    """An epoch is done and its checkpoint is kept.

    Attributes:
        epoch, epochs: which of how many, from 1.
        step: optimizer steps taken since the beginning.
        metrics: `train/…` losses and, if the epoch was evaluated, `coco/…` metrics.
        picture: PNG of detections beside ground truth, if the epoch was evaluated.
    """

    epoch: int
    epochs: int
    step: int
    metrics: dict[str, float]
    picture: bytes | None


@dataclass(frozen=True)
class Note:
    """A line for the user, such as an image that was skipped."""

    text: str


@dataclass(frozen=True)
class Refused:
    """A worker met an error that it would meet again, so that starting it again is no use.

    Attributes:
        error: its notes tell where it was raised.
    """

    error: Exception


Event: TypeAlias = "Started | StepReport | Evaluating | EpochReport | Note | Refused"


class Line:
    """From the workers to the driver, in order; it reserves no CPU and lives as long as its driver.

    Events travel pickled: the queue's process need not import what they are made of.
    """

    def __init__(self) -> None:
        self._queue = Queue(actor_options={"num_cpus": 0})

    def send(self, event: Event) -> None:
        """Send from a worker."""
        self._queue.put(pickle.dumps(event))

    def send_later(self, event: Event) -> None:
        """Send without waiting, where waiting is not allowed: on an event loop."""
        self._queue.actor.put_nowait.remote(pickle.dumps(event))

    def receive(self, ended: threading.Event) -> Iterator[Event]:
        """Events on the driver until `ended` is set, and those that came in before."""
        awaited = self._queue.actor.get.remote()
        while True:
            last = ended.is_set()
            if ray.wait([awaited], timeout=0.5)[0]:
                # Trusted: only workers of this run have the queue.
                yield pickle.loads(ray.get(awaited))  # noqa: S301
                awaited = self._queue.actor.get.remote()
            elif last:
                return


class StepSender:
    """Sends at most one step report per second, and every epoch's last, with the mean losses since the one before."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._sums: dict[str, float] = {}
        self._count = 0
        self._sent = -SECONDS_BETWEEN_STEPS

    def __call__(self, report: StepReport) -> None:
        """Take note of a step and perhaps send it."""
        self._count += 1
        self._sums = {name: self._sums.get(name, 0.0) + value for name, value in report.losses.items()}
        now = time.monotonic()
        if now - self._sent < SECONDS_BETWEEN_STEPS and report.epoch_step < report.epoch_steps:
            return
        means = {name: total / self._count for name, total in self._sums.items()}
        self._line.send(dataclasses.replace(report, losses=means))
        self._sums, self._count, self._sent = {}, 0, now


class NoteHandler(logging.Handler):
    """Passes the text of warnings on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record."""
        self._say(record.getMessage())


class FailureNotes(UserCallback):
    """Tells the user about a worker that died, at once: Ray Train starts the workers again without a word."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Runs in Ray Train's controller."""
        rank, error = min(worker_exceptions.items())
        lines = str(error).strip().splitlines() or [type(error).__name__]
        self._line.send_later(Note(f"worker {rank} failed: {lines[-1]}"))
