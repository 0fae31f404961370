"""Rank, device and precision of a process."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mrqm.config import Config
from mrqm.structures.batch import Batch


def autocast(config: Config, device: torch.device) -> torch.autocast:
    """Return an autocast context of the configured precision.

    Args:
        config: configuration, of which `train.precision` is used.
        device: device of the computation.

    Returns:
        The context manager, which does nothing for float32.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=config.train.precision == "bfloat16")


def uncompiled(config: Config) -> AbstractContextManager[None]:
    """Return a context that runs compiled models eagerly, because each new image size would compile them again."""
    return torch.compiler.set_stance("force_eager") if config.model.compile else nullcontext()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to a device.

    Args:
        batch: images, masks and targets.
        device: destination.

    Returns:
        The batch on the device; copies may still be in progress.
    """
    images, masks, targets = batch
    moved = [{name: value.to(device, non_blocking=True) for name, value in target.items()} for target in targets]
    masks = None if masks is None else masks.to(device, non_blocking=True)
    return images.to(device, non_blocking=True), masks, moved


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside DistributedDataParallel, or the module itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def get_rank_and_world_size() -> tuple[int, int]:
    """Return this process's rank and the number of ranks; 0 and 1 without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
