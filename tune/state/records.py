"""The lines of a sweep's journal."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pipelines.failures.classification import classify_text
from pipelines.failures.taxonomy import Failure, FailureKind
from tune.space.schema import Params

Verdict = Literal["continue", "finished", "pruned", "stopped"]
"""What becomes of a trial after an epoch; `stopped`: the sweep's hours are used up."""


class Entry(BaseModel):
    """A line of the journal.

    Attributes:
        at: seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    at: float = Field(default_factory=time.time)


class SessionBegan(Entry):
    """A driver began, or went on with, the sweep; `trials` is how many it shall have in the end."""

    event: Literal["session"] = "session"
    trials: int


class KnownRun(BaseModel):
    """A run that was there before the sweep.

    Attributes:
        run_id: in MLflow.
        params: the searched ones.
        values: of the objectives, where the first was best.
        curve: the first objective by epoch.
        pruned: whether it would have trained longer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    run_id: str
    params: Params
    values: tuple[float, ...]
    curve: dict[int, float]
    pruned: bool


class WarmStarted(Entry):
    """The search learned from earlier runs before its first trial; it never looks for them again."""

    event: Literal["warm_start"] = "warm_start"
    runs: tuple[KnownRun, ...]


class TrialBegan(Entry):
    """A trial was suggested; `attributes` are what Optuna's sampler remembers of it."""

    event: Literal["trial"] = "trial"
    trial: int
    params: Params
    attributes: dict[str, Any] = {}


class Reported(Entry):
    """An epoch of a trial, and what became of it.

    Attributes:
        step: optimizer steps of the trial so far.
        metrics: `train/…`, `coco/…` if it was evaluated, `cost/…` if they are sought.
        seconds: the epoch took, evaluation and checkpoint included.
        checkpoint: its folder, relative to the sweep's.
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
    """A trial that goes on from a copy of another's checkpoint, with other parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    trial: int
    source_trial: int
    params: Params
    checkpoint: str


class GenerationEnded(Entry):
    """All trials of a population reached an epoch, and the worst became copies of the best."""

    event: Literal["generation"] = "generation"
    epoch: int
    exploits: tuple[Exploit, ...]


class Lost(Entry):
    """A trial was interrupted by a passing failure; it goes on from its last checkpoint.

    Attributes:
        reason: the sentence that says what happened.
        delay: seconds until it goes on.
    """

    event: Literal["lost"] = "lost"
    trial: int
    reason: str
    kind: FailureKind = FailureKind.PROCESS_LOST
    delay: float = 0.0

    def failure(self) -> Failure:
        """The failure, as the policy looks at it."""
        return Failure(self.kind, self.reason)


class Failed(Entry):
    """A trial ended with an error.

    Attributes:
        error: the sentence that says what happened.
        kind: None in a journal of before there were kinds, whose `error` is the end of a traceback.
        details: the traceback.
    """

    event: Literal["failed"] = "failed"
    trial: int
    error: str
    kind: FailureKind | None = None
    details: str = ""

    def failure(self) -> Failure:
        """The failure, classified by its text where the journal does not say its kind."""
        if self.kind is None:
            return classify_text(self.error)
        return Failure(self.kind, self.error, self.details)


class Retried(Entry):
    """A failed trial begins again, from its last checkpoint if there is one."""

    event: Literal["retried"] = "retried"
    trial: int


AnyEntry: TypeAlias = "SessionBegan | WarmStarted | TrialBegan | Reported | GenerationEnded | Lost | Failed | Retried"
ENTRY: TypeAdapter[AnyEntry] = TypeAdapter(
    Annotated[
        SessionBegan | WarmStarted | TrialBegan | Reported | GenerationEnded | Lost | Failed | Retried,
        Field(discriminator="event"),
    ]
)
