"""What workers tell the driver while they train, and the line that carries it.

One stream serves the display and MLflow, so that workers need neither a terminal nor a tracking server, its credentials
or a database they can reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from mrqm.structures.step_report import StepReport

SECONDS_BETWEEN_STEPS = 1.0
PROTOCOL: Literal["coco"] = "coco"
"""What validation while training counts by, and the prefix of its metrics."""


@dataclass(frozen=True)
class Started:
    """The workers are ready to train.

    Attributes:
        epoch: epochs already done, above 0 when a run is continued.
        step: steps done within the next one.
        num_parameters: of the model.
        epoch_steps: optimizer steps of an epoch.
        workers: how many there are.
    """

    epoch: int
    step: int
    num_parameters: int
    epoch_steps: int
    workers: int


@dataclass(frozen=True)
class Evaluating:
    """Epoch `epoch` is trained and its validation begins."""

    epoch: int


@dataclass(frozen=True)
class EpochReport:
    """An epoch is done and its checkpoint is kept.

    Attributes:
        epoch, epochs: which of how many, from 1.
        step: optimizer steps taken since the beginning.
        metrics: `train/…` losses and, if the epoch was evaluated, `coco/…` metrics.
        picture: PNG of detections beside ground truth, if the epoch was evaluated.
        queries: PNG of where the model's queries are, if it was.
    """

    epoch: int
    epochs: int
    step: int
    metrics: dict[str, float]
    picture: bytes | None
    queries: bytes | None = None


@dataclass(frozen=True)
class EpochHistory:
    """Epochs that a checkpoint knows: the driver may have died before it heard of some of them."""

    epochs: tuple[EpochReport, ...]


@dataclass(frozen=True)
class SystemSample:
    """How busy a machine is.

    Attributes:
        node: rank of the machine.
        step: optimizer steps taken since the beginning.
        values: see `pipelines.compute.system_metrics`.
    """

    node: int
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class LogMessage:
    """A line for the user, such as an image that was skipped."""

    text: str


@dataclass(frozen=True)
class Interrupted:
    """Workers failed, and the training with them.

    Attributes:
        text: what happened, for the user.
        details: where it was raised, if it was.
    """

    text: str
    details: str = ""


@dataclass(frozen=True)
class StepSkipped:
    """A step taught nothing, because its loss or gradient was no number or its loss exploded.

    Attributes:
        step: of the run.
        what: was wrong with it.
        folder: in which it is kept for `mrqm replay`.
        steps: how many there were until now.
    """

    step: int
    what: str
    folder: str
    steps: int


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is to be evaluated beside the training is written."""

    name: str


Event: TypeAlias = (
    "Started | StepReport | Evaluating | EpochReport | EpochHistory | SystemSample | LogMessage | Interrupted"
    " | StepSkipped | Saved"
)
