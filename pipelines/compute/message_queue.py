"""The queue that carries messages from workers to the driver."""

from __future__ import annotations

import dataclasses
import logging
import pickle
import threading
import time
from collections.abc import Callable, Iterator

import ray
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mrqm.structures.step_report import StepReport
from pipelines.compute.messages import SECONDS_BETWEEN_STEPS, Event


class MessageQueue:
    """A queue of events from the workers to the driver; it reserves no CPU and lives as long as the driver's node.

    Events are sent pickled, so that the queue's process need not import their classes.
    """

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})

    def send(self, event: Event) -> None:
        """Send an event from a worker."""
        self._queue.put(pickle.dumps(event))

    def send_later(self, event: Event) -> None:
        """Send an event without waiting, as on an event loop."""
        self._queue.actor.put_nowait.remote(pickle.dumps(event))

    def receive(self, ended: threading.Event, idle: Callable[[], None] = lambda: None) -> Iterator[Event]:
        """Yield events on the driver until `ended` is set and all events before have been received.

        Args:
            ended: event that is set after the last message.
            idle: function that is called every half second without an event.

        Returns:
            Iterator over the events, in the order of their arrival.
        """
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

    def __init__(self, queue: MessageQueue) -> None:
        self._queue = queue
        self._sums: dict[str, float] = {}
        self._count = 0
        self._sent = -SECONDS_BETWEEN_STEPS

    def __call__(self, report: StepReport) -> None:
        """Record a step, and send a report if one is due."""
        self._count += 1
        self._sums = {name: self._sums.get(name, 0.0) + value for name, value in report.losses.items()}
        now = time.monotonic()
        if now - self._sent < SECONDS_BETWEEN_STEPS and report.epoch_step < report.epoch_steps:
            return
        means = {name: total / self._count for name, total in self._sums.items()}
        self._queue.send(dataclasses.replace(report, losses=means))
        self._sums, self._count, self._sent = {}, 0, now


class LogMessageHandler(logging.Handler):
    """A logging handler that prints the text of warnings."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        self._say(record.getMessage())
