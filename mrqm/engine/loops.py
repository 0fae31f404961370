"""Loops of training and evaluation: one epoch each, without Ray and MLflow."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mrqm.config import Config
from mrqm.data import DetectionLoader
from mrqm.engine.divergence import Divergence, not_finite, save_divergence
from mrqm.engine.progress import DivergenceError, Progress
from mrqm.engine.train_step import TrainState
from mrqm.evaluation import Evaluator, build_protocol
from mrqm.inference.postprocess import detect
from mrqm.ops.distributed import get_rank_and_world_size, unwrap
from mrqm.structures.batch import Batch
from mrqm.structures.metric import VALIDATION
from mrqm.structures.step_report import StepReport

logger = logging.getLogger(__name__)


def train_one_epoch(
    state: TrainState,
    loader: DetectionLoader,
    progress: Progress,
    epoch: int,
    on_step: Callable[[StepReport], None],
    on_divergence: Callable[[Divergence, Path], None],
) -> dict[str, float]:
    """Train on all batches of an epoch, or on its remaining ones, until the time limit at most.

    The noise of a step depends on seed, epoch, step and rank alone, so that a run resumed after any step repeats the
    uninterrupted one.

    Args:
        state: model, criterion and optimizer.
        loader: batches of this rank, without those of the steps already taken.
        progress: progress of the run, advanced in place.
        epoch: number of the epoch, from 1.
        on_step: callback for every rank after every step, with `progress` up to date.
        on_divergence: callback instead of `on_step` after a step without update, with the folder in which it is saved.

    Returns:
        Mean losses of the epoch over steps and ranks, by name.

    Raises:
        DivergenceError: a loss or gradient is not finite, or a loss spiked, and the configuration stops the run then.
    """
    state.model.train()
    config = state.config
    epoch_steps = len(loader) // config.train.gradient_accumulation_steps
    begin, before, seen_before = time.perf_counter(), progress.elapsed_seconds, progress.images_seen
    for batches in _grouped(loader, config.train.gradient_accumulation_steps):
        noise_seed = _seed_noise(config.train.seed, epoch, progress.epoch_step)
        losses = state.backward(batches)
        seconds, images, means = _mean_over_ranks(
            losses, time.perf_counter() - begin, sum(len(targets) for _, _, targets in batches), state.device
        )
        exceeded = _exceeded(means["loss"], progress.median_loss(), config.train.loss_spike_factor)
        usable = math.isfinite(means["loss"]) and exceeded is None
        lr = state.update(progress.step, progress.share) if usable else None
        progress.count_step(before + seconds, images)
        if lr is None:
            own = {name: value.item() for name, value in losses.items()}
            causes = not_finite(means) or (() if exceeded is not None else ("gradient",))
            rank = get_rank_and_world_size()[0]
            divergence = Divergence(epoch, progress.step, rank, noise_seed, own, causes, exceeded)
            _skip_step(divergence, state, batches, progress, on_divergence)
        else:
            progress.learned(means)
            images_per_second = (progress.images_seen - seen_before) / seconds
            on_step(_report_step(progress, means, lr, images_per_second, epoch, config.train.epochs, epoch_steps))
        if progress.share >= 1:
            break
    return progress.end_epoch()


def _report_step(
    progress: Progress,
    losses: dict[str, float],
    lr: float,
    images_per_second: float,
    epoch: int,
    epochs: int,
    epoch_steps: int,
) -> StepReport:
    return StepReport(
        epoch=epoch,
        epochs=epochs,
        step=progress.step,
        epoch_step=progress.epoch_step,
        epoch_steps=epoch_steps,
        losses=losses,
        lr=lr,
        images_per_second=images_per_second,
        images_seen=progress.images_seen,
        elapsed_seconds=progress.elapsed_seconds,
        eta_seconds=progress.eta_seconds,
    )


def _exceeded(loss: float, median: float | None, factor: float | None) -> float | None:
    """Return the median loss if the loss exceeds it by the factor, else None."""
    return median if median is not None and factor is not None and loss > factor * median else None


def _skip_step(
    divergence: Divergence,
    state: TrainState,
    batches: list[Batch],
    progress: Progress,
    on_divergence: Callable[[Divergence, Path], None],
) -> None:
    """Save a step that diverged, then skip it or stop the run, as configured."""
    config = state.config
    state.optimizer.zero_grad(set_to_none=True)
    progress.skipped += 1
    folder = state.nonfinite_steps / f"step_{divergence.step:06d}"
    if not_finite(divergence.losses) or "gradient" in divergence.not_finite or divergence.median_loss is not None:
        try:
            save_divergence(folder / f"rank_{divergence.rank}", unwrap(state.model), batches, config, divergence)
        except OSError as error:
            logger.warning("step %d could not be kept: %s", divergence.step, error)
    on_divergence(divergence, folder)
    what = f"step {divergence.step}: {divergence.what}; kept for `mrqm replay {folder}/rank_*`"
    if config.train.on_divergence == "stop" or progress.skipped > config.train.max_skipped:
        raise DivergenceError(
            f"{what}\nlower optim.lr={config.optim.lr} or optim.max_grad_norm={config.optim.max_grad_norm}, or set "
            + (
                ""
                if divergence.median_loss is None
                else f"train.loss_spike_factor={config.train.loss_spike_factor} higher or "
            )
            + f"train.on_divergence=skip (skipped so far: {progress.skipped - 1} of at most {config.train.max_skipped})"
        )
    logger.warning("%s; skipped, %d of at most %d", what, progress.skipped, config.train.max_skipped)


@torch.inference_mode()
def evaluate(model: nn.Module, loader: DetectionLoader, config: Config, device: torch.device) -> dict[str, float]:
    """Evaluate a model by COCO's protocol; every rank calls it with its part of the data.

    Args:
        model: model to evaluate; it is left in evaluation mode.
        loader: batches of this rank.
        config: configuration of the training, with the protocol's settings.
        device: device of the model.

    Returns:
        The metrics by name, the same on every rank; see `CocoProtocol`.
    """
    model.eval()
    data = loader.data
    evaluator = Evaluator(build_protocol(VALIDATION, config.evaluation), data.classes, data.scored_record)
    for batch in loader:
        evaluator.update(detect(model, batch, config, device), batch[2])
    return evaluator.compute()


def _seed_noise(seed: int, epoch: int, step: int) -> int:
    """Seed the noise of one step, different on every rank, and return the seed."""
    noise_seed = int(np.random.SeedSequence((seed, epoch, step, get_rank_and_world_size()[0])).generate_state(1)[0])
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
    """Reduce losses and time to means and images to their sum, in one exchange, so that all ranks stop together."""
    values = torch.stack([*losses.values(), *torch.tensor([seconds, images], device=device).float()])
    ranks = 1
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
        ranks = dist.get_world_size()
    *means, seconds, images = (values / ranks).tolist()
    return seconds, round(images * ranks), dict(zip(losses, means, strict=True))
