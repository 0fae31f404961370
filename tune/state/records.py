"""The entries of a sweep's journal."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pipelines.failures.classification import classify_text
from pipelines.failures.taxonomy import Failure, FailureKind
from tune.space.schema import Params

Verdict = Literal["continue", "finished", "pruned", "stopped"]
"""Decision on a trial after an epoch; `stopped` if the sweep's hours are used up."""


class Entry(BaseModel):
    """An entry of the journal.

    Attributes:
        at: time in seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    at: float = Field(default_factory=time.time)


class SessionBegan(Entry):
    """The start of a driver, for a new sweep or a resumed one.

    Attributes:
        trials: number of trials that the sweep shall have in the end.
    """

    event: Literal["session"] = "session"
    trials: int


class KnownRun(BaseModel):
    """An earlier run that the search learns from.

    Attributes:
        run_id: id of the MLflow run.
        params: searched parameters by dotted key.
        values: objectives of the epoch with the best first one.
        curve: first objective by epoch.
        pruned: True if the run ended before its last epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    run_id: str
    params: Params
    values: tuple[float, ...]
    curve: dict[int, float]
    pruned: bool


class WarmStarted(Entry):
    """The warm start of the search, once before the first trial.

    Attributes:
        runs: earlier runs that the search learns from.
    """

    event: Literal["warm_start"] = "warm_start"
    runs: tuple[KnownRun, ...]


class TrialBegan(Entry):
    """The start of a trial.

    Attributes:
        trial: number of the trial.
        params: parameters by dotted key.
        attributes: attributes of Optuna's sampler.
    """

    event: Literal["trial"] = "trial"
    trial: int
    params: Params
    attributes: dict[str, Any] = {}


class Reported(Entry):
    """An epoch of a trial, and the decision on the trial.

    Attributes:
        trial: number of the trial.
        epoch: number of the epoch, from 1.
        step: optimizer steps of the trial so far.
        metrics: metrics by name: `train/…`, `coco/…` if the epoch was evaluated, `cost/…` if they are objectives.
        seconds: duration, evaluation and checkpoint included.
        checkpoint: folder of the checkpoint, relative to the sweep's.
        verdict: decision on the trial.
    """

    event: Literal["result"] = "result"
    trial: int
    epoch: int
    step: int
    metrics: dict[str, float]
    seconds: float
    checkpoint: str
    verdict: Verdict


class Exploit(BaseModel):
    """A trial's continuation from a copy of another's checkpoint, with perturbed parameters.

    Attributes:
        trial: number of the trial that is replaced.
        source_trial: number of the trial whose checkpoint was copied.
        params: new parameters by dotted key.
        checkpoint: folder of the copy, relative to the sweep's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    trial: int
    source_trial: int
    params: Params
    checkpoint: str


class GenerationEnded(Entry):
    """The end of a population's generation, at which the worst trials become copies of the best.

    Attributes:
        epoch: epoch that all trials have reached.
        exploits: replaced trials.
    """

    event: Literal["generation"] = "generation"
    epoch: int
    exploits: tuple[Exploit, ...]


class Lost(Entry):
    """An interruption of a trial by a passing failure, after which it resumes from its last checkpoint.

    Attributes:
        trial: number of the trial.
        reason: description of the failure, in a sentence.
        kind: kind of the failure.
        delay: seconds until the trial resumes.
    """

    event: Literal["lost"] = "lost"
    trial: int
    reason: str
    kind: FailureKind = FailureKind.PROCESS_LOST
    delay: float = 0.0

    def failure(self) -> Failure:
        """Return the failure for the failure policy."""
        return Failure(self.kind, self.reason)


class Failed(Entry):
    """The failure of a trial.

    Attributes:
        trial: number of the trial.
        error: description of the failure, in a sentence.
        kind: kind of the failure; None in journals of earlier versions, whose `error` is the end of a traceback.
        details: traceback.
    """

    event: Literal["failed"] = "failed"
    trial: int
    error: str
    kind: FailureKind | None = None
    details: str = ""

    def failure(self) -> Failure:
        """Return the failure, classified by its text if the journal lacks its kind."""
        if self.kind is None:
            return classify_text(self.error)
        return Failure(self.kind, self.error, self.details)


class Retried(Entry):
    """The restart of a failed trial, from its last checkpoint if there is one.

    Attributes:
        trial: number of the trial.
    """

    event: Literal["retried"] = "retried"
    trial: int


AnyEntry: TypeAlias = "SessionBegan | WarmStarted | TrialBegan | Reported | GenerationEnded | Lost | Failed | Retried"
ENTRY: TypeAdapter[AnyEntry] = TypeAdapter(
    Annotated[
        SessionBegan | WarmStarted | TrialBegan | Reported | GenerationEnded | Lost | Failed | Retried,
        Field(discriminator="event"),
    ]
)
