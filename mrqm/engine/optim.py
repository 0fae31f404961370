"""Parameter groups and the learning-rate schedule."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW, Optimizer

from mrqm.config import OptimConfig

STEP_FACTOR = 0.1
COSINE_FLOOR = 0.01


def build_optimizer(model: nn.Module, config: OptimConfig) -> AdamW:
    """Build AdamW with parameter groups for the backbone's learning rate and for parameters without weight decay.

    Norms, biases and embeddings are not decayed. A backbone learning rate of 0 freezes its parameters.

    Args:
        model: model of which all parameters that require gradients are optimized.
        config: settings of the optimizer.

    Returns:
        The optimizer.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    embeddings = {
        parameter for module in model.modules() if isinstance(module, nn.Embedding) for parameter in module.parameters()
    }
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_backbone = name.startswith("backbone.")
        if in_backbone and config.backbone_lr_factor == 0:
            parameter.requires_grad_(False)
            continue
        decays = parameter.ndim > 1 and parameter not in embeddings and "embedding" not in name
        groups.setdefault((in_backbone, decays), []).append(parameter)
    return AdamW(
        [
            {
                "params": parameters,
                "lr": config.lr * (config.backbone_lr_factor if in_backbone else 1.0),
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (in_backbone, decays), parameters in groups.items()
        ],
        fused=True,
    )


class Schedule:
    """Learning rate schedule: linear warm-up by steps, then a drop or a (late) cosine by the training's progress.

    Progress, not the step, drives it, so that a training limited by time ends its schedule when its time is up.

    Args:
        optimizer: optimizer whose rates are set; its present rates are the peaks.
        config: settings of the schedule.
    """

    def __init__(self, optimizer: Optimizer, config: OptimConfig) -> None:
        self.optimizer, self.config = optimizer, config
        self.peaks = [group["lr"] for group in optimizer.param_groups]

    def set(self, step: int, progress: float) -> float:
        """Set the learning rates of a step.

        Args:
            step: optimizer steps taken before, from 0.
            progress: fraction of the training that is done, in [0, 1].

        Returns:
            The learning rate of all parameters outside the backbone.
        """
        warmup = min(1.0, (step + 1) / self.config.warmup_steps) if self.config.warmup_steps else 1.0
        factor = warmup * self._decay(progress)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        return self.config.lr * factor

    def _decay(self, progress: float) -> float:
        if self.config.lr_scheduler == "step":
            return STEP_FACTOR if progress >= self.config.step_at else 1.0
        flat = self.config.flat_until if self.config.lr_scheduler == "flat_cosine" else 0.0
        falling = min(max(0.0, progress - flat) / (1 - flat), 1.0)
        return COSINE_FLOOR + (1 - COSINE_FLOOR) * (1 + math.cos(math.pi * falling)) / 2
