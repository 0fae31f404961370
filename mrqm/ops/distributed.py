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
    """The configured precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.train.precision == "bfloat16")


def uncompiled(config: Config) -> AbstractContextManager[None]:
    """Run a model as it is where images differ in size: a compiled one would be traced anew for each."""
    return torch.compiler.set_stance("force_eager") if config.model.compile else nullcontext()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """A batch on the model's device."""
    images, masks, targets = batch
    moved = [{name: value.to(device, non_blocking=True) for name, value in target.items()} for target in targets]
    masks = None if masks is None else masks.to(device, non_blocking=True)
    return images.to(device, non_blocking=True), masks, moved


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def get_rank_and_world_size() -> tuple[int, int]:
    """This process's rank and the number of ranks."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
