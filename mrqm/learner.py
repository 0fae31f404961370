"""A model with all that teaches it, one optimizer step at a time."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from mrqm.config import Config
from mrqm.criterion import Criterion, total_loss
from mrqm.data.loader import Batch
from mrqm.optim import Schedule


@dataclass
class Learner:
    """A model with all that teaches it.

    Attributes:
        faults: where steps that are not finite are kept.
    """

    model: nn.Module
    criterion: Criterion
    optimizer: Optimizer
    schedule: Schedule
    ema: ModelEmaV3 | None
    config: Config
    device: torch.device
    faults: Path

    def backward(self, batches: list[Batch]) -> dict[str, Tensor]:
        """Add up the gradients of the accumulated parts of a batch; returns their mean losses."""
        sums: dict[str, Tensor] = {}
        for index, batch in enumerate(batches):
            with self._gradients_shared(index == len(batches) - 1):
                losses = self._backward_part(batch, 1 / len(batches))
            sums = {name: sums.get(name, 0) + value.detach() / len(batches) for name, value in losses.items()}
        return sums

    def update(self, step: int, progress: float) -> float | None:
        """Take an optimizer step and clear the gradients.

        Args:
            step: steps taken before.
            progress: share of the training that is done.

        Returns:
            The learning rate; None if a gradient is not finite, which changes no weight.
        """
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.clip_norm)
        if not norm.isfinite():
            self.optimizer.zero_grad(set_to_none=True)
            return None
        lr = self.schedule.set(step, progress)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(unwrap(self.model), step)
        return lr

    def _backward_part(self, batch: Batch, share: float) -> dict[str, Tensor]:
        images, masks, targets = to_device(batch, self.device)
        with autocast(self.config, self.device):
            outputs = self.model(images, masks, targets)
        losses = self.criterion(outputs, targets)
        total = total_loss(losses, self.config.loss)
        (total * share).backward()
        return {"loss": total, **losses}

    def _gradients_shared(self, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last or not isinstance(self.model, DistributedDataParallel) else self.model.no_sync()


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


def place() -> tuple[int, int]:
    """This process's rank and the number of ranks."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
