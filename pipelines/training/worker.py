"""The training function of every worker: the loop of `mrqm.engine.trainer`, checkpoints, and reports of epochs."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypedDict

import ray.train
import ray.train.collective
import ray.train.torch
import torch
from ray.train import CheckpointUploadMode

from mrqm.checkpoint.lookup import SCORE, CheckpointError, find_checkpoint
from mrqm.config import Config
from mrqm.engine.divergence import Divergence
from mrqm.engine.trainer import Trainer
from mrqm.structures.metric import TRAIN, VALIDATION, with_protocol, without_protocol
from mrqm.structures.step_report import StepReport
from pipelines.compute.message_queue import LogMessageHandler, MessageQueue, StepSender
from pipelines.compute.messages import Evaluating, LogMessage, Saved, StepSkipped, SystemSample
from pipelines.compute.system_metrics import system_sampled
from pipelines.failures.classification import WorkerFailure
from pipelines.process.configure import configure_process
from pipelines.storage.ancestors import kept_weights
from pipelines.storage.checkpoints import CheckpointStore, checkpoint_name
from pipelines.storage.data_cache import data_cache
from pipelines.storage.filesystem import Storage
from pipelines.storage.run_dir import RunFolder
from pipelines.training.checkpoint_writer import CheckpointWriter
from pipelines.training.epoch_reports import report_epoch, report_former_epochs, report_samples, report_start

SECONDS_BETWEEN_POLLS = 5.0
"""Interval between checks for an announced preemption of a node."""

logger = logging.getLogger(__name__)


class Job(TypedDict):
    """Arguments of a worker: the training configuration, and the message queue to the driver."""

    config: Config
    queue: MessageQueue


def train_worker(job: Job) -> None:
    """Train to the end: from the run's newest checkpoint, from that of `train.resume`, or from the beginning."""
    configure_process()
    config, queue = job["config"], job["queue"]
    for layer in ("mrqm", "pipelines"):
        logging.getLogger(layer).addHandler(LogMessageHandler(lambda text: queue.send(LogMessage(text))))
    torch.set_num_threads(config.scaling.cpus_per_worker)
    trainer: Trainer | None = None
    try:
        folder = RunFolder(config)
        with (
            data_cache(config.data, lambda text: queue.send(LogMessage(text))),
            _nonfinite_steps_dir(folder.storage) as nonfinite_steps,
            kept_weights(folder.storage, config.model.init) as init_weights,
        ):
            trainer = Trainer(config, ray.train.torch.get_device(), nonfinite_steps, init_weights)
            with _system_reported(trainer, queue):
                _Training(trainer, folder.checkpoints, queue).run()
    except Exception as error:
        raise WorkerFailure(error, trainer.step if trainer else None, traceback.format_exc()) from error


def _system_reported(trainer: Trainer, queue: MessageQueue) -> AbstractContextManager[None]:
    """Report the utilisation of each machine, from one worker on it."""
    context = ray.train.get_context()
    if context.get_local_rank() != 0:
        return nullcontext()
    node = context.get_node_rank()
    return system_sampled(lambda values: queue.send_later(SystemSample(node, trainer.step, values)))


class _Training:
    """The epochs of one worker."""

    def __init__(self, trainer: Trainer, store: CheckpointStore, queue: MessageQueue) -> None:
        self._trainer, self._store, self._queue = trainer, store, queue
        self._config = trainer.config
        self._leads = trainer.rank == 0
        self._send_step = StepSender(queue) if self._leads else None
        self._writer = CheckpointWriter(store, self._report_saved) if self._leads else None
        minutes = self._config.train.checkpoint_minutes
        self._interval = math.inf if minutes is None else 60 * minutes
        self._saved_at = self._polled_at = 0.0
        self._saved_before_preemption = False

    def run(self) -> None:
        """Train the remaining epochs, after evaluating a resumed checkpoint that is not evaluated yet."""
        trainer = self._trainer
        unevaluated = self._resume()
        self._saved_at = self._polled_at = trainer.progress.elapsed_seconds
        if self._leads:
            self._queue.send(report_start(trainer))
            self._queue.send(report_former_epochs(trainer, self._store))
            if trainer.step == 0:
                self._queue.send(report_samples(trainer))
        if unevaluated is not None and self._due and not self._config.evaluation.asynchronous:
            self._evaluate(unevaluated)
        while not trainer.finished:
            means = trainer.train_epoch(self._after_step, self._after_divergence)
            losses = with_protocol(TRAIN, means)
            self._save(checkpoint_name(trainer.epoch), losses)
            if not self._due:
                self._report_epoch(losses, evaluated=False)
            elif not self._config.evaluation.asynchronous:
                self._evaluate(losses)
        if self._leads and trainer.stop_reason:
            self._queue.send(LogMessage(trainer.stop_reason))
        if self._writer is not None:
            self._writer.close()

    def _resume(self) -> dict[str, float] | None:
        """Load the newest complete checkpoint; return its metrics if it was not evaluated."""
        found = self._store.newest_first() if self._leads else None
        known: list[str] = ray.train.collective.broadcast_from_rank_zero(found)
        for name in known:
            try:
                with self._store.open(name) as folder:
                    self._trainer.load(folder)
            except CheckpointError as damaged:
                logger.warning("%s; resuming from the previous checkpoint", damaged)
            else:
                own = self._store.metrics(name) if self._leads else None
                metrics: dict[str, float] = ray.train.collective.broadcast_from_rank_zero(own)
                if SCORE not in metrics:
                    return metrics
                self._trainer.progress.evaluated(without_protocol(VALIDATION, metrics))  # written before its evaluation
                return None
        if known:
            raise CheckpointError(
                f"run {self._config.name}: none of its {len(known)} checkpoints can be read; remove them to restart"
            )
        if self._config.train.resume not in ("auto", "never"):
            self._trainer.load(find_checkpoint(self._config.train.resume))
        return None

    @property
    def _due(self) -> bool:
        """True if an epoch has ended and is to be evaluated."""
        trainer = self._trainer
        every = self._config.train.evaluate_every
        return trainer.progress.epoch_step == 0 and (trainer.finished or trainer.epoch % every == 0)

    def _evaluate(self, losses: dict[str, float]) -> None:
        trainer = self._trainer
        if self._leads:
            self._queue.send(Evaluating(trainer.epoch))
        scores = trainer.evaluate()
        if self._writer is not None:
            self._writer.score(checkpoint_name(trainer.epoch), scores)
        _report_to_ray(losses | scores)
        self._report_epoch(losses | scores, evaluated=True)

    def _report_epoch(self, metrics: dict[str, float], evaluated: bool) -> None:
        if self._leads:
            self._queue.send(report_epoch(self._trainer, metrics, evaluated))

    def _after_step(self, report: StepReport) -> None:
        """Report a step; save a checkpoint when one is due or a node is preempted, on all ranks at the same step."""
        if self._send_step is not None:
            self._send_step(report)
        if report.epoch_step == report.epoch_steps:
            return
        # `elapsed_seconds` is the mean over ranks, so that all ranks decide alike
        if report.elapsed_seconds - self._saved_at >= self._interval or self._is_preempted(report.elapsed_seconds):
            self._save(checkpoint_name(report.epoch - 1, report.step), {})

    def _after_divergence(self, divergence: Divergence, folder: Path) -> None:
        if self._leads:
            self._queue.send(StepSkipped(divergence.step, divergence.what, str(folder), self._trainer.progress.skipped))

    def _is_preempted(self, elapsed_seconds: float) -> bool:
        """Return true once, when the preemption of a node is announced."""
        if self._saved_before_preemption or elapsed_seconds - self._polled_at < SECONDS_BETWEEN_POLLS:
            return False
        self._polled_at = elapsed_seconds
        notice = ray.train.get_preemption_info()
        if notice is None:
            return False
        logger.warning("the cluster is preempting a node: saving a checkpoint")
        self._saved_before_preemption = True
        return True

    def _save(self, name: str, metrics: dict[str, float]) -> None:
        if self._writer is not None:
            self._writer.write(name, lambda: self._trainer.snapshot(metrics))
        self._saved_at = self._trainer.progress.elapsed_seconds

    def _report_saved(self, name: str) -> None:
        if self._config.evaluation.asynchronous:
            self._queue.send(Saved(name))


@contextmanager
def _nonfinite_steps_dir(storage: Storage) -> Iterator[Path]:
    """Provide the folder for nonfinite steps: in the run's folder, or local and uploaded at the end."""
    if storage.local:
        yield storage.local / "nonfinite_steps"
        return
    with storage.scratch_folder("nonfinite_steps") as folder:
        try:
            yield folder
        finally:
            storage.upload_folder(folder, "nonfinite_steps")


def _report_to_ray(metrics: dict[str, float]) -> None:
    """Report metrics to Ray Train, on every rank.

    Only evaluated epochs are reported: Ray's controller polls one report of a worker at a time, and no worker can end
    before all of its reports are polled.
    """
    # Ray stores reports as JSON, which has no NaN, the AP of a class without objects.
    finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
    ray.train.report(finite, checkpoint_upload_mode=CheckpointUploadMode.ASYNC)  # does not wait for the controller
