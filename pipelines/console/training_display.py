"""The display of a training: a live line under completed epochs on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from mrqm.structures.metric import VALIDATION, metric_key
from mrqm.structures.step_report import StepReport
from pipelines.compute.message_queue import LogMessageHandler
from pipelines.compute.messages import EpochReport, Evaluating, Started
from pipelines.console.format import SECONDS_BETWEEN_LINES, duration, number

WARNERS = ("mrqm", "pipelines")
BAR = 10
"""Width of a bar in characters."""


class Display:
    """Display of a run, and of this process's warnings, on a console while its context is open.

    Args:
        console: terminal or log.
        columns: metrics in the row of an epoch, named as by `CocoProtocol`.
    """

    def __init__(self, console: Console, columns: Sequence[str]) -> None:
        self._console = console
        self._columns = columns
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(BAR), TextColumn("{task.fields[detail]}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task: TaskID = self._bar.add_task("", total=None, detail="")
        self._printed = -SECONDS_BETWEEN_LINES
        self._last_step: StepReport | None = None
        self._said: set[str] = set()
        self._headed = False
        self._phase = ""
        self._warnings = LogMessageHandler(self.note)

    def __enter__(self) -> Self:
        self._bar.start()
        for name in WARNERS:
            logging.getLogger(name).addHandler(self._warnings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in WARNERS:
            logging.getLogger(name).removeHandler(self._warnings)
        self._bar.stop()

    def line(self, text: str) -> None:
        """Print a permanent line."""
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def note(self, text: str) -> None:
        """Print a line once, even if several workers report it."""
        if text not in self._said:
            self._said.add(text)
            self.line(f"note: {text}")

    def phase(self, text: str) -> None:
        """Show the current phase while there are no training steps; repeated calls print it once."""
        if text == self._phase:
            return
        self._phase = text
        self._bar.update(self._task, description=text, total=None, detail="")
        if not self._console.is_terminal:
            self.line(text)

    def started(self, event: Started) -> None:
        """Show that the workers have started or restarted."""
        self.line(f"model     {event.num_parameters / 1e6:.1f} M parameters, {event.epoch_steps} steps per epoch")
        if event.epoch or event.step:
            within = f", step {event.step}" if event.step else ""
            self.line(f"          continues after epoch {event.epoch}{within}")

    def step(self, report: StepReport) -> None:
        """Show progress within an epoch."""
        self._last_step, self._phase = report, ""
        epoch = f"epoch {report.epoch}/{report.epochs}"
        detail = _describe_step(report, self._console.width - len(epoch) - BAR - 2)
        self._bar.update(
            self._task, description=epoch, completed=report.epoch_step, total=report.epoch_steps, detail=detail
        )
        if not self._console.is_terminal and time.monotonic() - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = time.monotonic()
            self.line(f"{epoch} · {_describe_step(report)}")

    def evaluating(self, event: Evaluating) -> None:
        """Show that the validation of an epoch has begun."""
        self._bar.update(self._task, description=f"evaluating epoch {event.epoch}", total=None, detail="")

    def epoch(self, report: EpochReport) -> None:
        """Print a completed epoch as a row of a table."""
        if not self._headed:
            self.line(f"{'epoch':>9}{'loss':>9}{'img/s':>9}{'trained':>9}" + "".join(f"{n:>10}" for n in self._columns))
            self._headed = True
        row = f"{report.epoch:>5}/{report.epochs:<3}{report.metrics['train/loss']:>9.3f}"
        if step := self._last_step:
            row += f"{step.images_per_second:>9.1f}{duration(step.elapsed_seconds):>9}"
        values = [report.metrics.get(metric_key(VALIDATION, name)) for name in self._columns]
        self.line(row + "".join(f"{'' if value is None else number(value):>10}" for value in values))


def _describe_step(report: StepReport, width: float = math.inf) -> str:
    """Describe a step, with fewer details where the text exceeds `width` characters."""
    step, speed = f"step {report.epoch_step}/{report.epoch_steps}", f"{report.images_per_second:.1f} img/s"
    losses, eta = report.losses, f"ETA {duration(report.eta_seconds)}"
    loss = f"loss {losses['loss']:.2f}"
    named = " ".join(f"{n} {losses[f'loss_{n}']:.2f}" for n in ("class", "bbox", "giou") if f"loss_{n}" in losses)
    whole = f"{loss} ({named})" if named else loss
    texts = [" · ".join(parts) for parts in ((step, speed, whole, eta), (step, speed, loss, eta), (step, loss, eta))]
    return next((text for text in texts if len(text) <= width), f"{step} · {eta}")
