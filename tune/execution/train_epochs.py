"""The epochs of a trial, in one process or on each of several workers: `mrqm train`, one epoch at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path

import torch

from mrqm.config import Config
from mrqm.engine.trainer import Trainer
from mrqm.structures.metric import TRAIN, with_protocol
from pipelines.failures.storage_wait import attempts
from pipelines.storage.ancestors import kept_weights
from pipelines.storage.data_cache import data_cache
from pipelines.storage.filesystem import Storage, open_storage
from pipelines.storage.run_dir import RunFolder
from tune.state.messages import Epoch, Waiting


def train_epochs(config: Config, start: Path | None, device: torch.device) -> Generator[Epoch | Waiting, None, None]:
    """Train a configuration; of several workers, each calls this.

    Args:
        config: configuration of the trial.
        start: folder of the checkpoint to start from; None to start from scratch.
        device: device of this process.

    Yields:
        Epochs, and reasons to wait for the storage.
    """
    storage, sweep = RunFolder(config).storage, open_storage(config.output_dir, ".")
    with data_cache(config.data), kept_weights(sweep, config.model.init) as init_weights:
        torch.set_num_threads(config.scaling.cpus_per_worker)
        began = time.perf_counter()
        trainer = Trainer(config, device, init_weights=init_weights)
        if start is not None:
            trainer.load(start)
        while not trainer.finished:
            metrics = with_protocol(TRAIN, trainer.train_epoch())
            evaluated = trainer.finished or trainer.epoch % config.train.evaluate_every == 0
            scores = trainer.evaluate() if evaluated else {}
            checkpoint = Path(config.output_dir) / config.name / f"epoch_{trainer.epoch:04d}"
            if trainer.rank == 0:
                save = partial(_save, trainer, storage, checkpoint.name, scores)
                yield from map(Waiting, attempts(save, f"{config.name}/{checkpoint.name}"))
            finite = {name: float(value) for name, value in (metrics | scores).items() if math.isfinite(value)}
            now = time.perf_counter()
            yield Epoch(trainer.epoch, trainer.step, now - began, finite, str(checkpoint), evaluated, trainer.finished)
            began = time.perf_counter()


def _save(trainer: Trainer, storage: Storage, name: str, scores: dict[str, float]) -> None:
    """Write a checkpoint whose folder appears once it is complete; a failed attempt leaves nothing."""
    with storage.scratch_folder(name) as folder:
        trainer.save(folder, scores)
        storage.upload_folder(folder, name)
