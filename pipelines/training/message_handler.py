"""The driver's handling of its workers' messages: display, tracking, interruptions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mrqm.config import ScalingConfig
from mrqm.structures.step_report import StepReport
from pipelines.compute.message_queue import MessageQueue
from pipelines.compute.messages import (
    EpochHistory,
    EpochReport,
    Evaluating,
    Event,
    Interrupted,
    LogMessage,
    Samples,
    Saved,
    Started,
    StepSkipped,
    SystemSample,
)
from pipelines.compute.resources import describe_missing, describe_resources
from pipelines.console.training_display import Display
from pipelines.storage.run_dir import RunFolder
from pipelines.tracking.tracker import Tracker
from pipelines.training.interruptions import FILE as INTERRUPTIONS
from pipelines.training.interruptions import Interruptions
from pipelines.training.validation import AsyncEvaluator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MessageHandler:
    """Handler of the messages from the workers of one training.

    Attributes:
        folder: folder of the run, for pictures.
        tracker: tracker of the MLflow run.
        display: display of the training.
        interruptions: interruptions of the run.
        scaling: number and resources of the workers.
        validation: asynchronous evaluator of checkpoints; None if the workers evaluate.
    """

    folder: RunFolder
    tracker: Tracker
    display: Display
    interruptions: Interruptions
    scaling: ScalingConfig
    validation: AsyncEvaluator | None

    def listen(self, queue: MessageQueue, ended: threading.Event, stop: Callable[[], None]) -> None:
        """Handle messages until the training has ended; stop it on an error.

        Args:
            queue: message queue from the workers.
            ended: event that is set at the end of the training.
            stop: function that stops the training.
        """
        try:
            for event in queue.receive(ended, self._show_missing_resources):
                self._handle(event)
        except Exception:
            if not ended.wait(1):  # unless it is already ending
                stop()
            raise

    def _handle(self, event: Event) -> None:
        match event:
            case Started():
                self.interruptions.started(event)
                self.display.started(event)
            case Samples():
                for folder, path in self._write_pictures(0, {"samples": event.picture}).items():
                    self.tracker.log_file(path, folder)
            case StepReport():
                self._step(event)
            case Evaluating():
                self.display.evaluating(event)
            case EpochReport():
                self._epoch(event)
            case EpochHistory(epochs=epochs):
                for epoch in epochs:  # the tracker skips known epochs
                    self.tracker.log_epoch(epoch, {})
            case SystemSample():
                self.tracker.log_system(event)
            case LogMessage():
                self.display.note(event.text)
            case Interrupted():
                if self.interruptions.interrupted(event):
                    self.display.line(f"note: {event.text}")
                    self.display.phase(f"starting {describe_resources(self.scaling)} again")
            case StepSkipped():
                self.tracker.log_divergence(event)
            case Saved():
                self._evaluate(event)

    def _show_missing_resources(self) -> None:
        """Show that the training waits for a lost node, since Ray Train does not report it."""
        if self.interruptions.stopped and (missing := describe_missing(self.scaling, self.validation is not None)):
            self.display.phase(f"{missing}; Ctrl-C stops")

    def _step(self, event: StepReport) -> None:
        self.display.step(event)
        self.tracker.log_step(event)
        if interruption := self.interruptions.passed(event):
            self.display.line(
                f"note: step {event.step} reached, {interruption.seconds_lost:.0f} s lost: {interruption.what}"
            )
            self.tracker.log_interruptions(self.interruptions.restarts, self.interruptions.seconds_lost, event.step)
            self.tracker.log_file(self.folder.file_here(INTERRUPTIONS))

    def _epoch(self, event: EpochReport) -> None:
        self.display.epoch(event)
        pictures = self._write_pictures(event.epoch, {"pictures": event.picture, "queries": event.queries})
        self.tracker.log_epoch(event, pictures)

    def _write_pictures(self, epoch: int, pictures: Mapping[str, bytes | None]) -> dict[str, Path]:
        """Write the pictures of an epoch by kind, and return the files; a full disk costs the picture only."""
        written = {}
        for kind, png in pictures.items():
            if png:
                try:
                    written[kind] = self.folder.write_picture(epoch, png, kind)
                except OSError as error:
                    logger.warning("the %s of epoch %d could not be written: %s", kind, epoch, error)
        return written

    def _evaluate(self, event: Saved) -> None:
        if self.validation is not None:
            self.validation.begin(event.name)
            for fault in self.validation.poll():
                self.display.note(fault)
