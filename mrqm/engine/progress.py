"""Progress of a training, by steps and by time, with its recent losses."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TypedDict

from mrqm.errors import UserError

RECENT = 100
"""Number of steps whose median loss is the reference for loss spikes."""


class DivergenceError(UserError):
    """A loss or gradient that is not finite, or a loss spike."""


class EpochRecord(TypedDict):
    """Record of an epoch: the step at which it ended, its mean losses and, if it was evaluated, its metrics."""

    step: int
    losses: dict[str, float]
    scores: dict[str, float]


@dataclass
class Progress:
    """Progress of a training, by steps and by time; saved with checkpoints.

    Attributes:
        total_steps: optimizer steps of all epochs.
        max_seconds: time limit in seconds, or infinity.
        step, elapsed_seconds, images_seen: totals since the beginning of the run, over all restarts.
        epoch_step: steps taken in the current epoch.
        loss_sums, loss_steps: sums of the losses of these steps, and number of steps that updated the weights.
        skipped: steps since the beginning without update, because a loss or gradient was not finite or a loss spiked.
        recent_losses: total losses of the last steps that updated the weights, at most `RECENT`.
        epochs: records of the completed epochs.
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
    recent_losses: list[float] = field(default_factory=list)
    epochs: list[EpochRecord] = field(default_factory=list)

    def count_step(self, elapsed_seconds: float, images: int) -> None:
        """Count a step, whether or not it updates the weights.

        Args:
            elapsed_seconds: seconds since the beginning of the run, with this step.
            images: images of the step, of all ranks.
        """
        self.step += 1
        self.epoch_step += 1
        self.elapsed_seconds = elapsed_seconds
        self.images_seen += images

    def learned(self, losses: dict[str, float]) -> None:
        """Count the losses of a step that updated the weights."""
        self.loss_sums = {name: self.loss_sums.get(name, 0.0) + value for name, value in losses.items()}
        self.loss_steps += 1
        self.recent_losses = [*self.recent_losses, losses["loss"]][-RECENT:]

    def median_loss(self) -> float | None:
        """Return the median loss of the last `RECENT` steps, or None before there are as many."""
        return statistics.median(self.recent_losses) if len(self.recent_losses) == RECENT else None

    def end_epoch(self) -> dict[str, float]:
        """Record the epoch, begin the next one and return the epoch's mean losses.

        Raises:
            DivergenceError: no step of the epoch updated the weights.
        """
        if not self.loss_steps:
            raise DivergenceError(f"all {self.epoch_step} steps of the epoch were skipped: no loss was usable")
        means = {name: value / self.loss_steps for name, value in self.loss_sums.items()}
        self.epoch_step, self.loss_steps, self.loss_sums = 0, 0, {}
        self.epochs = [*self.epochs, {"step": self.step, "losses": means, "scores": {}}]
        return means

    def evaluated(self, scores: dict[str, float]) -> None:
        """Record the metrics of the last epoch."""
        if self.epochs:
            self.epochs = [*self.epochs[:-1], {**self.epochs[-1], "scores": scores}]

    @property
    def evaluations_without_gain(self) -> int:
        """Number of evaluations since the one with the highest AP, the first among equals."""
        scores = [record["scores"]["AP"] for record in self.epochs if "AP" in record["scores"]]
        ranked = [-math.inf if math.isnan(score) else score for score in scores]  # no object to find
        return len(ranked) - 1 - ranked.index(max(ranked)) if ranked else 0

    @property
    def share(self) -> float:
        """Fraction of the training that is done, in [0, 1]."""
        return min(1.0, max(self.step / self.total_steps, self.time_share))

    @property
    def time_share(self) -> float:
        """Fraction of the time limit that is used; 0 without a limit."""
        return self.elapsed_seconds / self.max_seconds

    @property
    def eta_seconds(self) -> float:
        """Estimated time to the end of the training, in seconds."""
        return self.elapsed_seconds * (1 / self.share - 1) if self.share else math.inf
