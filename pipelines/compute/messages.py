"""The messages of workers to the driver while they train.

One stream serves the display and MLflow, so that workers need neither a terminal nor access to a tracking server, its
credentials or its database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from mrqm.structures.step_report import StepReport

SECONDS_BETWEEN_STEPS = 1.0


@dataclass(frozen=True)
class Started:
    """The workers are ready to train.

    Attributes:
        epoch: number of epochs done, above 0 for a resumed run.
        step: number of steps done within the next epoch.
        num_parameters: number of the model's parameters.
        epoch_steps: optimizer steps of an epoch.
        workers: number of workers.
    """

    epoch: int
    step: int
    num_parameters: int
    epoch_steps: int
    workers: int


@dataclass(frozen=True)
class Samples:
    """The training data, before the first step.

    Attributes:
        picture: PNG of some training images as augmented, with their objects and ignored regions.
    """

    picture: bytes


@dataclass(frozen=True)
class Evaluating:
    """An epoch is trained and its validation begins.

    Attributes:
        epoch: number of the epoch, from 1.
    """

    epoch: int


@dataclass(frozen=True)
class EpochReport:
    """An epoch is done and its checkpoint is written.

    Attributes:
        epoch: number of the epoch, from 1.
        epochs: number of epochs of the run.
        step: optimizer steps since the beginning.
        metrics: `train/…` losses and, if the epoch was evaluated, `coco/…` metrics, by name.
        picture: PNG of detections next to ground truth; None if the epoch was not evaluated.
        queries: PNG of the positions of the model's queries; None if the epoch was not evaluated.
    """

    epoch: int
    epochs: int
    step: int
    metrics: dict[str, float]
    picture: bytes | None
    queries: bytes | None = None


@dataclass(frozen=True)
class EpochHistory:
    """The epochs of a checkpoint, of which the driver may have missed some before it died.

    Attributes:
        epochs: reports in order.
    """

    epochs: tuple[EpochReport, ...]


@dataclass(frozen=True)
class SystemSample:
    """A sample of a machine's load.

    Attributes:
        node: rank of the machine.
        step: optimizer steps since the beginning.
        values: values by MLflow's names, see `pipelines.compute.system_metrics`.
    """

    node: int
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class LogMessage:
    """A line for the user, such as a note about a skipped image.

    Attributes:
        text: text of the line.
    """

    text: str


@dataclass(frozen=True)
class Interrupted:
    """The workers failed, and the training is interrupted.

    Attributes:
        text: description of the failure, for the user.
        details: traceback, if there is one.
    """

    text: str
    details: str = ""


@dataclass(frozen=True)
class StepSkipped:
    """A step was skipped, because its loss or gradient was not finite or its loss had a spike.

    Attributes:
        step: number of the step within the run.
        what: description of the divergence.
        folder: folder in which the step is kept for `mrqm replay`.
        steps: number of skipped steps so far.
    """

    step: int
    what: str
    folder: str
    steps: int


@dataclass(frozen=True)
class Saved:
    """A checkpoint for asynchronous evaluation is written.

    Attributes:
        name: name of the checkpoint's folder.
    """

    name: str


Event: TypeAlias = (
    "Started | Samples | StepReport | Evaluating | EpochReport | EpochHistory | SystemSample | LogMessage | Interrupted"
    " | StepSkipped | Saved"
)
