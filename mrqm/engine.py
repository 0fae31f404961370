"""The plain loops: one epoch of training, one pass of evaluation. They know neither Ray nor MLflow."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mrqm.config import Config
from mrqm.data import DetectionLoader
from mrqm.data.loader import Batch
from mrqm.evaluation import CocoEvaluator
from mrqm.faults import Fault, not_finite, save_fault
from mrqm.learner import Learner, autocast, place, to_device, unwrap
from mrqm.postprocess import postprocess

logger = logging.getLogger(__name__)


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
class Progress:
    """How far a training is, by steps and by time; saved with checkpoints.

    Attributes:
        total_steps: optimizer steps of all epochs.
        max_seconds: the time limit, or infinity.
        step, elapsed_seconds, images_seen: since the beginning, over all restarts.
        epoch_step: steps taken in the epoch that is under way.
        loss_sums, loss_steps: losses of these steps, and how many had any.
        skipped: steps since the beginning that taught nothing, because a loss or gradient was not finite.
    """

    total_steps: int
    max_seconds: float
    step: int = 0
    elapsed_seconds: float = 0.0
    images_seen: int = 0
    epoch_step: int = 0
    loss_sums: dict[str, float] = field(default_factory=dict)
    loss_steps: int = 0
    skipped: int = 0

    def learned(self, losses: dict[str, float]) -> None:
        """Count the losses of a step."""
        self.loss_sums = {name: self.loss_sums.get(name, 0.0) + value for name, value in losses.items()}
        self.loss_steps += 1

    def end_epoch(self) -> dict[str, float]:
        """Mean losses of the epoch; the next one begins.

        Raises:
            DivergenceError: not one step of the epoch had finite losses.
        """
        if not self.loss_steps:
            raise DivergenceError(f"all {self.epoch_step} steps of the epoch were skipped: no loss was finite")
        means = {name: value / self.loss_steps for name, value in self.loss_sums.items()}
        self.epoch_step, self.loss_steps, self.loss_sums = 0, 0, {}
        return means

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
    """Train on every batch of an epoch, or what is left of it, or until the time limit.

    The noise of a step depends on seed, epoch, step and rank alone, so that a run that goes on from any step repeats
    the uninterrupted one.

    Args:
        learner: the model and what teaches it.
        loader: one rank's batches, those of the steps already taken left out.
        progress: advanced in place.
        epoch: from 1.
        on_step: called on every rank after every step, with `progress` up to date.

    Returns:
        Mean losses of the epoch over steps and ranks.

    Raises:
        DivergenceError: a loss or gradient is not finite, and by configuration that ends the run.
    """
    learner.model.train()
    config = learner.config
    epoch_steps = len(loader) // config.train.accumulate
    begin, before, seen_before = time.perf_counter(), progress.elapsed_seconds, progress.images_seen
    for batches in _grouped(loader, config.train.accumulate):
        noise_seed = _seed_noise(config.train.seed, epoch, progress.epoch_step)
        losses = learner.backward(batches)
        seconds, images, means = _mean_over_ranks(
            losses, time.perf_counter() - begin, sum(len(targets) for _, _, targets in batches), learner.device
        )
        lr = learner.update(progress.step, progress.share) if math.isfinite(means["loss"]) else None
        progress.step += 1
        progress.epoch_step += 1
        progress.elapsed_seconds, progress.images_seen = before + seconds, progress.images_seen + images
        if lr is None:
            own = {name: value.item() for name, value in losses.items()}
            fault = Fault(epoch, progress.step, place()[0], noise_seed, own, not_finite(means) or ("gradient",))
            _set_aside(fault, learner, batches, progress)
        else:
            progress.learned(means)
            on_step(
                StepReport(
                    epoch=epoch,
                    epochs=config.train.epochs,
                    step=progress.step,
                    epoch_step=progress.epoch_step,
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
    return progress.end_epoch()


def _set_aside(fault: Fault, learner: Learner, batches: list[Batch], progress: Progress) -> None:
    """Keep a step that went wrong, and go on without it or stop, as configured."""
    config = learner.config
    learner.optimizer.zero_grad(set_to_none=True)
    progress.skipped += 1
    folder = config.output / config.name / "faults" / f"step_{fault.step:06d}"
    if not_finite(fault.losses) or "gradient" in fault.not_finite:
        save_fault(folder / f"rank_{fault.rank}", unwrap(learner.model), batches, config, fault)
    what = f"step {fault.step}: {', '.join(fault.not_finite)} not finite; kept for `mrqm replay {folder}/rank_*`"
    if config.train.on_divergence == "stop" or progress.skipped > config.train.max_skipped:
        raise DivergenceError(
            f"{what}\nlower optim.lr={config.optim.lr} or optim.clip_norm={config.optim.clip_norm}, or set "
            f"train.on_divergence=skip (skipped so far: {progress.skipped - 1})"
        )
    logger.warning("%s; skipped, %d of at most %d", what, progress.skipped, config.train.max_skipped)


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


def _seed_noise(seed: int, epoch: int, step: int) -> int:
    """Seed the noise of one step, different on every rank; returns that seed."""
    noise_seed = int(np.random.SeedSequence((seed, epoch, step, place()[0])).generate_state(1)[0])
    torch.manual_seed(noise_seed)
    return noise_seed


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
