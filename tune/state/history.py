"""The history of a sweep and its trials, as its journal records it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.failures.taxonomy import OUT_OF_MEMORY_REMEDY, Failure, FailureKind
from tune.space.schema import Params
from tune.space.settings import Budget, Objective
from tune.state.records import (
    AnyEntry,
    Exploit,
    Failed,
    GenerationEnded,
    KnownRun,
    Lost,
    Reported,
    Retried,
    SessionBegan,
    TrialBegan,
    WarmStarted,
)

INFEASIBLE = frozenset({FailureKind.OUT_OF_MEMORY, FailureKind.DIVERGED})
"""Failures that a trial's parameters cause, so that the search must avoid them."""
State = Literal["running", "finished", "pruned", "stopped", "failed"]


@dataclass
class Trial:
    """The state of a trial.

    Attributes:
        number: number from 0, in the order in which trials began.
        params: current parameters by dotted key, which exploits change.
        attributes: attributes of Optuna's sampler.
        results: reported epochs, in order.
        exploits: exploits of other trials, each with the epoch after which it happened.
        interruptions: passing failures since the last result.
        state: current state.
        failure: final failure; None if the trial has not failed.
        retries: number of times that the trial was run again after it had failed.
        checkpoint: folder to resume from, relative to the sweep's folder; None before the first checkpoint.
    """

    number: int
    params: Params
    attributes: dict[str, Any] = field(default_factory=dict)
    results: list[Reported] = field(default_factory=list)
    exploits: list[tuple[int, Exploit]] = field(default_factory=list)
    interruptions: list[Failure] = field(default_factory=list)
    state: State = "running"
    failure: Failure | None = None
    retries: int = 0
    checkpoint: str | None = None

    @property
    def name(self) -> str:
        """Name of the trial, its folder and its MLflow run."""
        return trial_name(self.number)

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return self.results[-1].epoch if self.results else 0

    @property
    def seconds(self) -> float:
        """Seconds of all epochs."""
        return sum(result.seconds for result in self.results)

    @property
    def error(self) -> str | None:
        """Reason of the failure, in a sentence; None if the trial has not failed."""
        return self.failure.message if self.failure else None

    @property
    def violation(self) -> str | None:
        """Constraint that the parameters violate, of memory or of convergence; None if there is none."""
        return self.failure.kind.value if self.failure is not None and self.failure.kind in INFEASIBLE else None

    def curve(self, objective: Objective) -> dict[int, float]:
        """Return the objective by epoch, where it was measured."""
        return {r.epoch: r.metrics[objective.metric] for r in self.results if objective.metric in r.metrics}

    def best(self, objective: Objective) -> Reported | None:
        """Return the result with the best value, the latest of several; None without a result."""
        scored = [result for result in self.results if objective.metric in result.metrics]
        return max(reversed(scored), key=lambda result: objective.sign * result.metrics[objective.metric], default=None)

    def values(self, objectives: Sequence[Objective]) -> list[float] | None:
        """Return the objectives of the epoch with the best first one; None if that epoch lacks any of them."""
        best = self.best(objectives[0])
        if best is None or any(objective.metric not in best.metrics for objective in objectives):
            return None
        return [best.metrics[objective.metric] for objective in objectives]


class History:
    """The state of a sweep after a sequence of journal entries.

    Args:
        entries: journal entries in order.

    Attributes:
        entries: journal entries in order.
        trials: trials in the order in which they began.
        known: earlier runs that the search learned from.
        generation: epoch at which a population's last generation ended.
    """

    def __init__(self, entries: Iterable[AnyEntry] = ()) -> None:
        self.entries: list[AnyEntry] = []
        self.trials: list[Trial] = []
        self.known: tuple[KnownRun, ...] = ()
        self.generation = 0
        for entry in entries:
            self.follow(entry)

    def follow(self, entry: AnyEntry) -> None:
        """Add an entry."""
        self.entries.append(entry)
        match entry:
            case WarmStarted():
                self.known = entry.runs
            case TrialBegan():
                self.trials.append(Trial(entry.trial, dict(entry.params), dict(entry.attributes)))
            case Reported():
                trial = self.trials[entry.trial]
                trial.results.append(entry)
                trial.checkpoint, trial.interruptions = entry.checkpoint, []
                trial.state = "running" if entry.verdict == "continue" else entry.verdict
            case GenerationEnded():
                self.generation = entry.epoch
                for exploit in entry.exploits:
                    trial = self.trials[exploit.trial]
                    trial.exploits.append((entry.epoch, exploit))
                    trial.params, trial.checkpoint = dict(exploit.params), exploit.checkpoint
            case Lost():
                self.trials[entry.trial].interruptions.append(entry.failure())
            case Failed():
                trial = self.trials[entry.trial]
                trial.failure, trial.state = entry.failure(), "failed"
            case Retried():
                trial = self.trials[entry.trial]
                trial.failure, trial.state, trial.interruptions = None, "running", []
                trial.retries += 1

    @property
    def wanted_trials(self) -> int:
        """Number of trials that the sweep shall have in the end; 0 before its first session."""
        return max((entry.trials for entry in self.entries if isinstance(entry, SessionBegan)), default=0)

    @property
    def hours(self) -> float:
        """Hours of wall-clock time of all sessions until their last entries."""
        total = 0.0
        for before, after in zip(self.entries, self.entries[1:], strict=False):
            if not isinstance(after, SessionBegan):
                total += after.at - before.at
        return total / 3600

    def is_spent(self, budget: Budget, gpus: int, more: float = 0.0) -> bool:
        """Tell if the hours of a budget are used up.

        Args:
            budget: budget of the sweep.
            gpus: GPUs of a trial.
            more: seconds of a trial that the journal lacks.

        Returns:
            True if wall-clock hours or GPU hours are used up.
        """
        gpu_hours = gpus * (more + sum(trial.seconds for trial in self.trials)) / 3600
        return self.hours >= (budget.hours or math.inf) or gpu_hours >= (budget.gpu_hours or math.inf)

    def running(self) -> list[Trial]:
        """Return the trials that have not ended, with or without a process."""
        return [trial for trial in self.trials if trial.state == "running"]

    def failures(self) -> list[str]:
        """Describe the failures of trials, a line for each, and the remedy for those that ran out of memory."""
        lines = [f"trial {trial.number} failed: {trial.error}" for trial in self.trials if trial.error]
        if any(trial.failure and trial.failure.kind is FailureKind.OUT_OF_MEMORY for trial in self.trials):
            lines.append(f"out of memory: {OUT_OF_MEMORY_REMEDY}")
        return lines

    def best_trials(self, objective: Objective) -> list[Trial]:
        """Return the trials with a result, best first, without those that failed."""
        scored = [(trial, best) for trial in self.trials if (best := trial.best(objective)) and trial.state != "failed"]
        scored.sort(key=lambda pair: -objective.sign * pair[1].metrics[objective.metric])
        return [trial for trial, _ in scored]


def trial_name(number: int) -> str:
    """Return the name of a trial."""
    return f"trial-{number:04d}"
