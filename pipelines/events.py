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
from typing import TYPE_CHECKING, Literal, TypeAlias

import ray
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

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
        workers: how many there are.
    """

    epoch: int
    step: int
    num_parameters: int
    epoch_steps: int
    workers: int


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
        queries: PNG of where the model's queries are, if it was.
    """

    epoch: int
    epochs: int
    step: int
    metrics: dict[str, float]
    picture: bytes | None
    queries: bytes | None = None


@dataclass(frozen=True)
class Remembered:
    """Epochs that a checkpoint knows: the driver may have died before it heard of some of them."""

    epochs: tuple[EpochReport, ...]


@dataclass(frozen=True)
class SystemSample:
    """How busy a machine is.

    Attributes:
        node: rank of the machine.
        step: optimizer steps taken since the beginning.
        values: see `pipelines.system_metrics`.
    """

    node: int
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Note:
    """A line for the user, such as an image that was skipped."""

    text: str


@dataclass(frozen=True)
class Interrupted:
    """Workers failed, and the training with them.

    Attributes:
        text: what happened, for the user.
        details: where it was raised, if it was.
    """

    text: str
    details: str = ""


@dataclass(frozen=True)
class SetAside:
    """A step taught nothing, because its loss or gradient was no number or its loss exploded.

    Attributes:
        step: of the run.
        what: was wrong with it.
        folder: in which it is kept for `mrqm replay`.
        steps: how many there were until now.
    """

    step: int
    what: str
    folder: str
    steps: int


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is to be evaluated beside the training is written."""

    name: str


Event: TypeAlias = (
    "Started | StepReport | Evaluating | EpochReport | Remembered | SystemSample | Note | Interrupted | SetAside"
    " | Saved"
)


class Line:
    """From the workers to the driver, in order; it reserves no CPU and lives on the driver's node, as long as it.

    Events travel pickled: the queue's process need not import what they are made of.
    """

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})

    def send(self, event: Event) -> None:
        """Send from a worker."""
        self._queue.put(pickle.dumps(event))

    def send_later(self, event: Event) -> None:
        """Send without waiting, where waiting is not allowed: on an event loop."""
        self._queue.actor.put_nowait.remote(pickle.dumps(event))

    def receive(self, ended: threading.Event, idle: Callable[[], None] = lambda: None) -> Iterator[Event]:
        """Events on the driver until `ended` is set, and those that came before; `idle` is called while none come."""
        awaited = self._queue.actor.get.remote()
        while True:
            last = ended.is_set()
            if ray.wait([awaited], timeout=0.5)[0]:
                # Trusted: only workers of this run have the queue.
                yield pickle.loads(ray.get(awaited))  # noqa: S301
                awaited = self._queue.actor.get.remote()
            elif last:
                return
            else:
                idle()


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
