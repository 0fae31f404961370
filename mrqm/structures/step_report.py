"""Report of one training step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepReport:
    """Progress of a training after one optimizer step.

    Attributes:
        epoch, epochs: current epoch, from 1, and number of epochs.
        step: optimizer steps since the beginning of the run.
        epoch_step, epoch_steps: optimizer steps since the beginning of the epoch, and their number per epoch.
        losses: `loss`, the weighted total, and its unweighted terms, averaged over ranks.
        lr: learning rate of all parameters outside the backbone.
        images_per_second: throughput of all ranks together over this epoch.
        images_seen: images processed by all ranks since the beginning of the run.
        elapsed_seconds: training time since the beginning of the run.
        eta_seconds: estimated time to the end of the training.
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
