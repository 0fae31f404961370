"""The report of one training step."""

from __future__ import annotations

from dataclasses import dataclass


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
