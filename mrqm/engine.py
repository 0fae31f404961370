"""The plain loops: one epoch of training, one pass of evaluation. They know neither Ray nor MLflow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from mrqm.config import Config
from mrqm.criterion import Criterion, total_loss
from mrqm.data import DetectionLoader
from mrqm.evaluation import CocoEvaluator
from mrqm.optim import Schedule
from mrqm.postprocess import postprocess

Batch = tuple[Tensor, Tensor | None, list[dict[str, Tensor]]]


class DivergenceError(ValueError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class StepReport:
    """Where a training is, after one optimizer step.

    Attributes:
        epoch, epochs: the epoch, from 1, and how many there will be.
        step: optimizer steps taken since the beginning.
        epoch_step, epoch_steps: the same within the epoch.
        losses: `loss`, the weighted total, and its unweighted parts, averaged over ranks.
        lr: learning rate of everything but the backbone.
        images_per_second: of all ranks together, over this epoch.
        images_seen: by all ranks since the beginning.
        elapsed_seconds: time spent training since the beginning.
        eta_seconds: until the training ends.
    """

    epoch: int
    epochs: int
    step: int
    epoch_step: int
    epoch_steps: int
    losses: dict[str, float]
    lr: float
    images_per_second: float
    images_seen: int
    elapsed_seconds: float
    eta_seconds: float


@dataclass
class Learner:
    """A model with all that teaches it."""

    model: nn.Module
    criterion: Criterion
    optimizer: Optimizer
    schedule: Schedule
    ema: ModelEmaV3 | None
    config: Config
    device: torch.device

    def step(self, batches: list[Batch], step: int, progress: float) -> tuple[dict[str, Tensor], float]:
        """One optimizer step over the accumulated parts of a batch; returns its losses and learning rate."""
        lr = self.schedule.set(step, progress)
        sums: dict[str, Tensor] = {}
        for index, batch in enumerate(batches):
            with self._gradients_shared(index == len(batches) - 1):
                losses = self._backward(batch, 1 / len(batches))
            sums = {name: sums.get(name, 0) + value.detach() / len(batches) for name, value in losses.items()}
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(unwrap(self.model), step)
        return sums, lr

    def _backward(self, batch: Batch, share: float) -> dict[str, Tensor]:
        images, masks, targets = to_device(batch, self.device)
        with autocast(self.config, self.device):
            outputs = self.model(images, masks, targets)
        losses = self.criterion(outputs, targets)
        total = total_loss(losses, self.config.loss)
        (total * share).backward()
        return {"loss": total, **losses}

    def _gradients_shared(self, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last or not isinstance(self.model, DistributedDataParallel) else self.model.no_sync()


@dataclass
class Progress:
    """How far a training is, by steps and by time; saved with checkpoints.

    Attributes:
        total_steps: optimizer steps of all epochs.
        max_seconds: the time limit, or infinity.
        step, elapsed_seconds, images_seen: since the beginning, over all restarts.
    """

    total_steps: int
    max_seconds: float
    step: int = 0
    elapsed_seconds: float = 0.0
    images_seen: int = 0

    @property
    def share(self) -> float:
        """Share of the training that is done, in [0, 1]."""
        return min(1.0, max(self.step / self.total_steps, self.elapsed_seconds / self.max_seconds))

    @property
    def eta_seconds(self) -> float:
        """Estimated time until the training ends."""
        return self.elapsed_seconds * (1 / self.share - 1) if self.share else math.inf


def train_one_epoch(
    learner: Learner,
    loader: DetectionLoader,
    progress: Progress,
    epoch: int,
    on_step: Callable[[StepReport], None],
) -> dict[str, float]:
    """Train on every batch of an epoch, or until the time limit.

    Args:
        learner: the model and what teaches it.
        loader: one rank's batches.
        progress: advanced in place.
        epoch: from 1.
        on_step: called on every rank after every step.

    Returns:
        Mean losses of the epoch over steps and ranks.

    Raises:
        DivergenceError: the loss is NaN or infinite.
    """
    learner.model.train()
    config = learner.config
    epoch_steps = len(loader) // config.train.accumulate
    sums: dict[str, float] = {}
    begin, before, seen_before = time.perf_counter(), progress.elapsed_seconds, progress.images_seen
    for epoch_step, batches in enumerate(_grouped(loader, config.train.accumulate), start=1):
        losses, lr = learner.step(batches, progress.step, progress.share)
        seconds, images, means = _mean_over_ranks(
            losses, time.perf_counter() - begin, sum(len(targets) for _, _, targets in batches), learner.device
        )
        progress.step += 1
        progress.elapsed_seconds, progress.images_seen = before + seconds, progress.images_seen + images
        if not math.isfinite(means["loss"]):
            bad = [name for name, value in means.items() if not math.isfinite(value)]
            raise DivergenceError(
                f"step {progress.step}: {', '.join(bad)} not finite; lower optim.lr={config.optim.lr}"
            )
        sums = {name: sums.get(name, 0.0) + value for name, value in means.items()}
        on_step(
            StepReport(
                epoch=epoch,
                epochs=config.train.epochs,
                step=progress.step,
                epoch_step=epoch_step,
                epoch_steps=epoch_steps,
                losses=means,
                lr=lr,
                images_per_second=(progress.images_seen - seen_before) / seconds,
                images_seen=progress.images_seen,
                elapsed_seconds=progress.elapsed_seconds,
                eta_seconds=progress.eta_seconds,
            )
        )
        if progress.share >= 1:
            break
    return {name: value / epoch_step for name, value in sums.items()}


@torch.inference_mode()
def evaluate(
    model: nn.Module, loader: DetectionLoader, classes: tuple[str, ...], config: Config, device: torch.device
) -> dict[str, float]:
    """Score a model; every rank calls it with its share of the data and gets the same metrics."""
    model.eval()
    settings = config.evaluation
    evaluator = CocoEvaluator(classes, settings.area_bins, settings.max_detections)
    for batch in loader:
        evaluator.update(detect(model, batch, config, device), batch[2])
    return evaluator.compute()


@torch.inference_mode()
def detect(model: nn.Module, batch: Batch, config: Config, device: torch.device) -> list[dict[str, Tensor]]:
    """Detections of one batch, on the host, in px of each target's `orig_size`."""
    images, masks, targets = to_device(batch, device)
    with autocast(config, device):
        outputs = model(images, masks)
    sizes = torch.stack([target["orig_size"] for target in targets])
    found = postprocess(outputs, sizes, config.evaluation.max_detections, config.evaluation.nms_iou)
    return [{name: value.cpu() for name, value in detections.items()} for detections in found]


def autocast(config: Config, device: torch.device) -> torch.autocast:
    """The configured precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.train.precision == "bfloat16")


def to_device(batch: Batch, device: torch.device) -> Batch:
    """A batch on the model's device."""
    images, masks, targets = batch
    moved = [{name: value.to(device, non_blocking=True) for name, value in target.items()} for target in targets]
    masks = None if masks is None else masks.to(device, non_blocking=True)
    return images.to(device, non_blocking=True), masks, moved


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def _grouped(loader: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    group: list[Batch] = []
    for batch in loader:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []


def _mean_over_ranks(
    losses: dict[str, Tensor], seconds: float, images: int, device: torch.device
) -> tuple[float, int, dict[str, float]]:
    """Mean losses, mean time and all images of a step, in one exchange, so that all ranks stop at the same step."""
    values = torch.stack([*losses.values(), *torch.tensor([seconds, images], device=device).float()])
    ranks = 1
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
        ranks = dist.get_world_size()
    *means, seconds, images = (values / ranks).tolist()
    return seconds, round(images * ranks), dict(zip(losses, means, strict=True))
