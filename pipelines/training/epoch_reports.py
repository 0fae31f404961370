"""Reports of a worker to the driver: the start of a training, and its epochs with pictures."""

from __future__ import annotations

import io

from PIL import Image

from mrqm.engine.trainer import Trainer
from mrqm.structures.metric import TRAIN, VALIDATION, with_protocol
from pipelines.compute.messages import EpochHistory, EpochReport, Samples, Started
from pipelines.storage.checkpoints import CheckpointStore, ends_epoch, epochs_of


def report_start(trainer: Trainer) -> Started:
    """Make the report of a training that begins or resumes."""
    steps = len(trainer.train_loader) // trainer.config.train.gradient_accumulation_steps
    return Started(trainer.epoch, trainer.progress.epoch_step, trainer.num_parameters, steps, trainer.world_size)


def report_former_epochs(trainer: Trainer, store: CheckpointStore) -> EpochHistory:
    """Collect the reports of the epochs before a resumption.

    Args:
        trainer: trainer with the loaded checkpoint.
        store: checkpoints of the run, which have the metrics of asynchronous evaluation.

    Returns:
        Reports of all completed epochs.
    """
    scores = {epochs_of(name): store.metrics(name) for name in store.newest_first() if ends_epoch(name)}
    reports = []
    for epoch, record in enumerate(trainer.progress.epochs, 1):
        metrics = with_protocol(TRAIN, record["losses"]) | with_protocol(VALIDATION, record["scores"])
        reports.append(
            EpochReport(
                epoch, trainer.config.train.epochs, record["step"], metrics | scores.get(epoch, {}), picture=None
            )
        )
    return EpochHistory(tuple(reports))


def report_epoch(trainer: Trainer, metrics: dict[str, float], evaluated: bool) -> EpochReport:
    """Make the report of an epoch, with pictures if it was evaluated.

    Args:
        trainer: trainer at the end of the epoch.
        metrics: metrics of the epoch by name.
        evaluated: true if the epoch was evaluated.

    Returns:
        Report for the driver.
    """
    return EpochReport(
        trainer.epoch,
        trainer.config.train.epochs,
        trainer.step,
        metrics,
        picture=_png(trainer.picture()) if evaluated else None,
        queries=_png(trainer.picture_queries()) if evaluated else None,
    )


def report_samples(trainer: Trainer) -> Samples:
    """Draw training images, before the first step."""
    return Samples(_png(trainer.picture_samples()))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png", compress_level=3)  # less than half the default's time for a fifth more bytes
    return file.getvalue()
