"""Messages between trials and the scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from tune.space.schema import Params


@dataclass(frozen=True)
class Task:
    """The task of a process: a trial to train.

    Attributes:
        trial: number of the trial.
        params: parameters of the trial, by dotted key.
        checkpoint: folder to resume from; None for a new trial.
    """

    trial: int
    params: Params
    checkpoint: str | None


@dataclass(frozen=True)
class Epoch:
    """The report of an epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        step: optimizer steps since the trial's beginning.
        seconds: duration, evaluation and checkpoint included.
        metrics: finite metrics by name.
        checkpoint: folder of the checkpoint.
        evaluated: True if the epoch was evaluated.
        finished: True for the last epoch of the trial.
    """

    epoch: int
    step: int
    seconds: float
    metrics: dict[str, float]
    checkpoint: str
    evaluated: bool
    finished: bool


@dataclass(frozen=True)
class Waiting:
    """A trial that waits for resources or storage.

    Attributes:
        reason: the missing resources and their holders, or the storage's error.
    """

    reason: str
