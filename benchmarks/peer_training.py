"""Training and evaluation of the peers, as MRQM's; see `peers`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mrqm.config import Config, ConfigError
from mrqm.data import DetectionLoader
from mrqm.engine.optim import Schedule, build_optimizer
from mrqm.engine.progress import DivergenceError, Progress
from mrqm.evaluation import Evaluator
from mrqm.ops.distributed import to_device

OnStep = Callable[[Progress, float], None]
"""Function that is called with progress and loss after every step."""
Tensors = tuple[Tensor, ...] | list[Tensor]


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Make MRQM's moving average of weights and statistics, for models whose heads share weights.

    Args:
        model: model to average.
        decay: decay after warm-up.

    Returns:
        The moving average, to be updated after every step.
    """

    def average(averages: Tensors, values: Tensors, steps: Tensor | int) -> None:
        if averages[0].is_floating_point():
            warmed_up = min(decay, 1 - (1 + int(steps)) ** (-2 / 3))
            torch._foreach_lerp_(averages, values, 1 - warmed_up)
        else:
            torch._foreach_copy_(averages, values)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def train(
    peer: Any,
    average: AveragedModel,
    loader: DetectionLoader,
    config: Config,
    device: torch.device,
    on_step: OnStep,
) -> Progress:
    """Train for the configured time, measured as MRQM's: during steps and the loading of their batches.

    Args:
        peer: model to train.
        average: moving average of the model.
        loader: loader of the training data.
        config: configuration of optimizer and time.
        device: device to train on.
        on_step: function that is called with progress and loss after every step.

    Returns:
        Progress at the end.

    Raises:
        DivergenceError: the loss is not finite.
    """
    progress = Progress(config.train.epochs * len(loader), 60 * (config.train.max_minutes or math.inf))
    optimizer = build_optimizer(nn.ModuleDict({"backbone": peer.backbone, "detector": peer}), config.optim)
    schedule = Schedule(optimizer, config.optim)
    peer.train()
    epoch = 0
    while progress.share < 1:
        loader.set_epoch(epoch, is_final=partial(is_final, config, progress, epoch))
        begin, before = time.perf_counter(), progress.elapsed_seconds
        for batch in loader:
            schedule.set(progress.step, progress.share)
            images, targets = unpadded(batch, device)
            loss = peer.loss(images, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(peer.parameters(), config.optim.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average.update_parameters(peer)
            if not math.isfinite(value := loss.item()):
                raise DivergenceError(f"step {progress.step}: the loss is {value}")
            progress.step += 1
            progress.images_seen += len(targets)
            progress.elapsed_seconds = before + time.perf_counter() - begin
            on_step(progress, value)
            if progress.share >= 1:
                break
        epoch += 1
    return progress


def is_final(config: Config, progress: Progress, epoch: int, epoch_share: float) -> bool:
    """Tell whether a share of an epoch lies in the final part of the training, as MRQM's trainer does.

    Args:
        config: configuration of the training.
        progress: progress of the training.
        epoch: number of the epoch, from 0.
        epoch_share: share of the epoch.

    Returns:
        True in the final part.
    """
    return max((epoch + epoch_share) / config.train.epochs, progress.time_share) >= config.data.augment.until


@torch.no_grad()
def evaluate(peer: Any, loader: DetectionLoader, evaluator: Evaluator, device: torch.device) -> dict[str, float]:
    """Evaluate a peer.

    Args:
        peer: model to evaluate; it is left in evaluation mode.
        loader: loader of the validation data.
        evaluator: evaluator of the protocol.
        device: device of the model.

    Returns:
        The metrics by name.
    """
    peer.eval()
    for batch in loader:
        images, targets = unpadded(batch, device)
        evaluator.update(peer.detect(images, targets), targets)
    return evaluator.compute()


def unpadded(batch: Any, device: torch.device) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Move a batch without padding to a device.

    Args:
        batch: batch of the loader.
        device: device to move to.

    Returns:
        Images (B, 3, H, W) in [0, 1], and their targets.

    Raises:
        ConfigError: images are padded, which the peers do not support.
    """
    images, masks, targets = to_device(batch, device)
    if masks is not None:
        raise ConfigError("the peers take images without padding: set data.tile.size to a multiple of 32")
    return images.float() / 255, targets
