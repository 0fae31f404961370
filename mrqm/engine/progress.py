"""How far a training is, and what its losses usually are."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TypedDict

from mrqm.errors import UserError

RECENT = 100
"""Steps whose median is the usual loss."""


class DivergenceError(UserError):
    """A loss or gradient is no longer a number, or a loss has exploded."""


class EpochRecord(TypedDict):
    """What came of an epoch: the step at which it ended, its mean losses and, if it was evaluated, its scores."""

    step: int
    losses: dict[str, float]
    scores: dict[str, float]


@dataclass
class Progress:
    """How far a training is, by steps and by time; saved with checkpoints.

    Attributes:
        total_steps: optimizer steps of all epochs.
        max_seconds: the time limit, or infinity.
        step, elapsed_seconds, images_seen: since the beginning, over all restarts.
        epoch_step: steps taken in the epoch that is under way.
        loss_sums, loss_steps: losses of these steps, and how many had any.
        skipped: steps since the beginning that taught nothing, because a loss or gradient was not finite or exploded.
        recent_losses: total losses of the last steps that taught something, at most `RECENT`.
        epochs: those that are done.
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

    def learned(self, losses: dict[str, float]) -> None:
        """Count the losses of a step."""
        self.loss_sums = {name: self.loss_sums.get(name, 0.0) + value for name, value in losses.items()}
        self.loss_steps += 1
        self.recent_losses = [*self.recent_losses, losses["loss"]][-RECENT:]

    def median_loss(self) -> float | None:
        """Median of the last steps' losses; None before there were enough to tell."""
        return statistics.median(self.recent_losses) if len(self.recent_losses) == RECENT else None

    def end_epoch(self) -> dict[str, float]:
        """Mean losses of the epoch, which is recorded; the next one begins.

        Raises:
            DivergenceError: not one step of the epoch taught anything.
        """
        if not self.loss_steps:
            raise DivergenceError(f"all {self.epoch_step} steps of the epoch were skipped: no loss was usable")
        means = {name: value / self.loss_steps for name, value in self.loss_sums.items()}
        self.epoch_step, self.loss_steps, self.loss_sums = 0, 0, {}
        self.epochs = [*self.epochs, {"step": self.step, "losses": means, "scores": {}}]
        return means

    def evaluated(self, scores: dict[str, float]) -> None:
        """Record what the last epoch scored."""
        if self.epochs:
            self.epochs = [*self.epochs[:-1], {**self.epochs[-1], "scores": scores}]

    @property
    def share(self) -> float:
        """Share of the training that is done, in [0, 1]."""
        return min(1.0, max(self.step / self.total_steps, self.elapsed_seconds / self.max_seconds))

    @property
    def eta_seconds(self) -> float:
        """Estimated time until the training ends."""
        return self.elapsed_seconds * (1 / self.share - 1) if self.share else math.inf
