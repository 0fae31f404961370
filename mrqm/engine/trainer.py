"""Training run on PyTorch alone, in one process or in several under torch.distributed, by any launcher.

trainer = Trainer(load_config("configs/demo.yaml"), torch.device("cpu"))
while not trainer.finished:
    losses = trainer.train_epoch()
    metrics = trainer.evaluate()
trainer.save(Path("checkpoint"), metrics)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mrqm.checkpoint.folder import Snapshot, adopt_class_order, copy_to_host, load_training, read_weights
from mrqm.checkpoint.initialization import build_initial_model
from mrqm.config import Config
from mrqm.config.batch_scaling import resolve_batch
from mrqm.data import build_dataset, build_loader, collate
from mrqm.data.loading.preview import preview_samples
from mrqm.engine.divergence import Divergence
from mrqm.engine.loops import evaluate, train_one_epoch
from mrqm.engine.optim import Schedule, build_optimizer
from mrqm.engine.progress import Progress
from mrqm.engine.train_step import TrainState
from mrqm.inference.postprocess import detect
from mrqm.losses.criterion import build_criterion
from mrqm.models.mrqm import compile_parts
from mrqm.ops.distributed import get_rank_and_world_size, unwrap
from mrqm.structures.batch import Batch
from mrqm.structures.metric import VALIDATION, with_protocol
from mrqm.structures.step_report import StepReport
from mrqm.visualization.detections import draw_comparison, draw_samples
from mrqm.visualization.query_heatmap import draw_densities, locate_queries

PROGRESS = (
    "step",
    "elapsed_seconds",
    "images_seen",
    "epoch_step",
    "loss_sums",
    "loss_steps",
    "skipped",
    "recent_losses",
    "epochs",
)
"""Fields of `Progress` that a checkpoint keeps; the others follow from the configuration."""
PICTURED = 4
"""Number of validation images in a picture, those with the most objects."""
SAMPLES = 8
"""Number of training images in a picture."""


class Trainer:
    """Training run, built from its configuration.

    Args:
        config: configuration of the run.
        device: device of the computation.
        nonfinite_steps: folder for steps that diverge; by default a folder of the run.
        init_weights: copy on this machine of the weights that `model.init` names; None to find them by that key.

    Attributes:
        config: configuration with resolved class names.
        classes: class names in label order.
        initialization: report of the weights that `model.init` gave; None without that key.
        epoch: number of completed epochs.
        progress: steps, seconds and images so far.

    Raises:
        ConfigError, DataError: a part of the configuration, such as the data, cannot be used.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device,
        nonfinite_steps: Path | None = None,
        init_weights: Path | None = None,
    ) -> None:
        self.device = device
        self.rank, self.world_size = get_rank_and_world_size()
        config = adopt_class_order(resolve_batch(config, self.world_size))
        train_data, self.val_data = build_dataset(config, "train"), build_dataset(config, "val")
        self.classes = train_data.classes
        self.config = config = config.with_classes(self.classes)
        self.train_loader = build_loader(config, train_data, training=True, rank=self.rank, world_size=self.world_size)
        self.val_loader = build_loader(
            config, self.val_data, training=False, rank=self.rank, world_size=self.world_size
        )
        torch.manual_seed(config.train.seed)  # the same initial weights on every rank
        model, self.initialization = build_initial_model(config, self.classes, init_weights)
        model = model.to(device)
        self.num_parameters = sum(parameter.numel() for parameter in model.parameters())
        optimizer = build_optimizer(model, config.optim)
        self.state = TrainState(
            model=_distributed(model, device) if self.world_size > 1 else model,
            criterion=build_criterion(config.loss),
            optimizer=optimizer,
            schedule=Schedule(optimizer, config.optim),
            ema=ModelEmaV3(model, config.optim.ema_decay, use_warmup=True) if config.optim.ema_decay else None,
            config=config,
            device=device,
            nonfinite_steps=nonfinite_steps or Path(config.output_dir) / config.name / "nonfinite_steps",
        )
        if config.model.compile:
            compile_parts(model)
        self.epoch = 0
        steps = config.train.epochs * (len(self.train_loader) // config.train.gradient_accumulation_steps)
        self.progress = Progress(steps, 60 * (config.train.max_minutes or math.inf))

    @property
    def step(self) -> int:
        """Optimizer steps taken."""
        return self.progress.step

    @property
    def finished(self) -> bool:
        """True when all epochs, all the allowed minutes or the patience are used up."""
        return self.epoch >= self.config.train.epochs or self.progress.share >= 1 or bool(self.stop_reason)

    @property
    def stop_reason(self) -> str:
        """Reason to stop before the end, when `train.patience` is used up; empty without one."""
        patience, without = self.config.train.patience, self.progress.evaluations_without_gain
        if patience is None or without < patience:
            return ""
        return (
            f"stopped after epoch {self.epoch} of {self.config.train.epochs}: {without} evaluations without a "
            f"higher AP (train.patience={patience})"
        )

    @property
    def model(self) -> nn.Module:
        """Model that is evaluated and kept: the moving average where there is one."""
        return unwrap(self.state.model) if self.state.ema is None else self.state.ema.module

    def train_epoch(
        self,
        on_step: Callable[[StepReport], None] = lambda report: None,
        on_divergence: Callable[[Divergence, Path], None] = lambda divergence, folder: None,
    ) -> dict[str, float]:
        """Train one epoch, or its remaining steps.

        Args:
            on_step: callback after every step.
            on_divergence: callback after a step that diverged, with the folder in which it is saved.

        Returns:
            Mean losses of the epoch by name.

        Raises:
            DivergenceError: a loss or gradient is not finite, or a loss spiked, and the configuration stops the run
                then.
        """
        begin = self.progress.epoch_step * self.config.train.batch_size
        self.train_loader.set_epoch(self.epoch, begin, self._is_final)
        losses = train_one_epoch(self.state, self.train_loader, self.progress, self.epoch + 1, on_step, on_divergence)
        self.epoch += 1
        return losses

    def _is_final(self, epoch_share: float) -> bool:
        """Tell whether a share of this epoch lies in the final part of the training, with little augmentation."""
        # By position, not by steps taken: worker processes read some batches ahead.
        position = (self.epoch + epoch_share) / self.config.train.epochs
        return max(position, self.progress.time_share) >= self.config.data.augment.until

    def evaluate(self) -> dict[str, float]:
        """Evaluate on the validation data and return the metrics by key, as `coco/AP`, the same on every rank."""
        scores = evaluate(self.model, self.val_loader, self.config, self.device)
        self.progress.evaluated(scores)
        return with_protocol(VALIDATION, scores)

    def picture(self) -> Image.Image:
        """Draw detections beside ground truth on the validation images with the most objects."""
        batch = self._fullest()
        self.model.eval()
        detections = detect(self.model, batch, self.config, self.device)
        return draw_comparison(list(batch[0]), detections, batch[2], self.classes)

    def picture_samples(self) -> Image.Image:
        """Draw some training images as augmented in the first epoch, with their objects and ignored regions."""
        return draw_samples(preview_samples(self.train_loader.data, SAMPLES), self.classes)

    def picture_queries(self) -> Image.Image:
        """Draw the density of the model's queries on the same images, as Figure 2 of Fu et al. (2024)."""
        batch = self._fullest()
        self.model.eval()
        return draw_densities(batch[0], batch[2], locate_queries(self.model, batch, self.config, self.device))

    def _fullest(self) -> Batch:
        """Collate the validation images with the most objects."""
        fullest = sorted(range(len(self.val_data)), key=self.val_data.count_objects, reverse=True)
        return collate([self.val_data[index] for index in fullest[:PICTURED]])

    def snapshot(self, metrics: dict[str, float]) -> Snapshot:
        """Copy the contents of a checkpoint, between epochs or after any step; rank 0's copy is enough."""
        training: dict[str, Any] = {
            "epoch": self.epoch,
            "progress": {name: getattr(self.progress, name) for name in PROGRESS},
            "optimizer": self.state.optimizer.state_dict(),
            "model": unwrap(self.state.model).state_dict(),
        }
        return Snapshot(copy_to_host(self.model.state_dict()), copy_to_host(training), self.config, metrics)

    def save(self, folder: Path, metrics: dict[str, float]) -> None:
        """Write a checkpoint folder, between epochs or after any step; only rank 0 needs to.

        Args:
            folder: destination, which is created.
            metrics: metrics of the evaluation; empty before the first.

        Raises:
            OSError: the disk is full, gone or not writable.
        """
        self.snapshot(metrics).write(folder)

    def load(self, folder: Path) -> None:
        """Resume from a checkpoint of the same configuration, at the step after which it was written.

        Raises:
            CheckpointError: the folder is no complete checkpoint of this model; the trainer is unchanged.
        """
        weights, training = read_weights(self.model, folder), load_training(folder)
        self.model.load_state_dict(weights)
        unwrap(self.state.model).load_state_dict(training["model"])
        self.state.optimizer.load_state_dict(training["optimizer"])
        self.epoch = training["epoch"]
        self.progress = replace(self.progress, **training["progress"])


def _distributed(model: nn.Module, device: torch.device) -> DistributedDataParallel:
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
