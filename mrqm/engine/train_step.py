"""Optimizer step of a model with its criterion and optimizer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from mrqm.config import Config
from mrqm.engine.optim import Schedule
from mrqm.losses.criterion import Criterion, total_loss
from mrqm.ops.distributed import autocast, to_device, unwrap
from mrqm.structures.batch import Batch


@dataclass
class TrainState:
    """Model, criterion and optimizer of a training.

    Attributes:
        model: model that is trained, inside DistributedDataParallel with several ranks.
        criterion: losses of the model's outputs.
        optimizer: optimizer of the model.
        schedule: learning rate schedule.
        ema: exponential moving average of the weights; None without one.
        config: configuration of the training.
        device: device of the model.
        nonfinite_steps: folder for steps that diverge.
    """

    model: nn.Module
    criterion: Criterion
    optimizer: Optimizer
    schedule: Schedule
    ema: ModelEmaV3 | None
    config: Config
    device: torch.device
    nonfinite_steps: Path

    def backward(self, batches: list[Batch]) -> dict[str, Tensor]:
        """Accumulate the gradients of the batches of one step and return their mean losses."""
        sums: dict[str, Tensor] = {}
        for index, batch in enumerate(batches):
            with self._gradients_shared(index == len(batches) - 1):
                losses = self._backward_part(batch, 1 / len(batches))
            sums = {name: sums.get(name, 0) + value.detach() / len(batches) for name, value in losses.items()}
        return sums

    def update(self, step: int, progress: float) -> float | None:
        """Take an optimizer step and clear the gradients.

        Args:
            step: optimizer steps taken before.
            progress: fraction of the training that is done, in [0, 1].

        Returns:
            The learning rate; None if a gradient is not finite, in which case no weight changes.
        """
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.max_grad_norm)
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
