"""Messages between trials and the scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from tune.space.schema import Params


@dataclass(frozen=True)
class Task:
    """What a process is to work on.

    Attributes:
        trial: its number.
        params: its configuration's overrides.
        checkpoint: where it goes on, if it began before.
    """

    trial: int
    params: Params
    checkpoint: str | None


@dataclass(frozen=True)
class Epoch:
    """What a process reports.

    Attributes:
        epoch: from 1.
        step: optimizer steps since the trial's beginning.
        seconds: it took, with evaluation and checkpoint.
        metrics: finite ones.
        checkpoint: folder of the weights.
        evaluated: whether it was.
        finished: whether it is the trial's last.
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
    """A trial cannot begin yet, because others hold what it needs; `reason` says what and who."""

    reason: str
