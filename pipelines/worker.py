"""What runs on every worker: the loop of `mrqm.trainer`, a checkpoint and a report after each epoch."""

from __future__ import annotations

import io
import logging
import math
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import ray.train
import ray.train.torch
import torch
from ray.train import Checkpoint

from mrqm.config import Config
from mrqm.engine import StepReport
from mrqm.trainer import Trainer
from pipelines.events import PROTOCOL, EpochReport, Evaluating, Line, Note, NoteHandler, Refused, Started, StepSender


class Job(TypedDict):
    """What a worker is given."""

    config: Config
    line: Line


def train_worker(job: Job) -> None:
    """Train to the end: from the run's latest checkpoint, from the one that is to be resumed, or from the beginning."""
    config, line = job["config"], job["line"]
    logging.getLogger("mrqm").addHandler(NoteHandler(lambda text: line.send(Note(text))))
    torch.set_num_threads(config.scaling.cpus_per_worker)
    try:
        trainer = Trainer(config, ray.train.torch.get_device())
        if checkpoint := ray.train.get_checkpoint():
            with checkpoint.as_directory() as folder:
                trainer.load(Path(folder))
        elif config.train.resume not in ("auto", "never"):
            trainer.load(Path(config.train.resume))
        _train_epochs(trainer, line)
    except (RuntimeError, OSError):
        raise  # a worker, a node or a network went away: Ray Train starts the workers again
    except Exception as error:
        error.add_note(traceback.format_exc())
        line.send(Refused(error))
        raise


def _train_epochs(trainer: Trainer, line: Line) -> None:
    leads = trainer.rank == 0
    on_step = _StepHandler(trainer, StepSender(line) if leads else None)
    if leads:
        line.send(_started(trainer))
    while not trainer.finished:
        losses = trainer.train_epoch(on_step)
        metrics = {f"train/{name}": value for name, value in losses.items()}
        evaluated = trainer.finished or trainer.epoch % trainer.config.train.evaluate_every == 0
        if evaluated:
            if leads:
                line.send(Evaluating(trainer.epoch))
            metrics |= {f"{PROTOCOL}/{name}": value for name, value in trainer.evaluate().items()}
        _report(trainer, metrics, f"epoch_{trainer.epoch:04d}")
        on_step.saved()
        if leads:
            line.send(_epoch_report(trainer, metrics, evaluated))


class _StepHandler:
    """Sends what happens to the driver, and writes a checkpoint when the last one is old: on all ranks at one step.

    Args:
        trainer: whose steps these are.
        send: to the driver; None on ranks that have nothing to say.
    """

    def __init__(self, trainer: Trainer, send: Callable[[StepReport], None] | None) -> None:
        self._trainer, self._send = trainer, send
        minutes = trainer.config.train.checkpoint_minutes
        self._interval = math.inf if minutes is None else 60 * minutes
        self.saved()

    def saved(self) -> None:
        """A checkpoint was written just now."""
        self._saved_at = self._trainer.progress.elapsed_seconds

    def __call__(self, report: StepReport) -> None:
        if self._send is not None:
            self._send(report)
        # `elapsed_seconds` is the mean over ranks: all of them come to the same decision
        if report.elapsed_seconds - self._saved_at >= self._interval and report.epoch_step < report.epoch_steps:
            _report(self._trainer, {}, f"epoch_{report.epoch - 1:04d}_step_{report.step:06d}")
            self.saved()


def _report(trainer: Trainer, metrics: dict[str, float], name: str) -> None:
    """Hand metrics and, from rank 0, a checkpoint to Ray Train; every rank calls it."""
    # Ray keeps reports as JSON, which has no NaN: the AP of a class without objects.
    finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
    with _checkpoint(trainer, metrics) as checkpoint:
        ray.train.report(finite, checkpoint, checkpoint_dir_name=name)


@contextmanager
def _checkpoint(trainer: Trainer, metrics: dict[str, float]) -> Iterator[Checkpoint | None]:
    """On rank 0 a checkpoint in a temporary folder, from which `ray.train.report` copies it; None elsewhere."""
    if trainer.rank:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        trainer.save(Path(folder), {key: v for key, v in metrics.items() if key.startswith(f"{PROTOCOL}/")})
        yield Checkpoint.from_directory(folder)


def _started(trainer: Trainer) -> Started:
    steps = len(trainer.train_loader) // trainer.config.train.accumulate
    return Started(trainer.epoch, trainer.progress.epoch_step, trainer.num_parameters, steps)


def _epoch_report(trainer: Trainer, metrics: dict[str, float], evaluated: bool) -> EpochReport:
    picture = io.BytesIO()
    if evaluated:
        trainer.picture().save(picture, "png")
    return EpochReport(trainer.epoch, trainer.config.train.epochs, trainer.step, metrics, picture.getvalue() or None)
