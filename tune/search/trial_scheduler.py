"""The decisions of a sweep: the trial that a free process works on, and whether a trial that reported continues.

The scheduler depends neither on Ray nor on processes; its state is the journal. A trial that lost its process, one that
an earlier session left unfinished and one of a population that begins its next generation are treated alike: as trials
without a process, with a checkpoint to resume from.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

from mrqm.structures.metric import TRAIN, metric_key
from pipelines.failures.classification import classify
from pipelines.failures.policy import Decision, FailurePolicy
from pipelines.failures.taxonomy import Failure, FailureKind
from pipelines.storage.filesystem import StorageError
from tune.search.pbt import Population
from tune.search.pruners import Score, ends
from tune.search.searcher import Searcher
from tune.space.sampling import ConfigSampler
from tune.state.checkpoints import remove_unneeded
from tune.state.history import Trial
from tune.state.journal import Journal
from tune.state.messages import Epoch, Task
from tune.state.records import Failed, Lost, Reported, TrialBegan, Verdict

FAILURES_TO_STOP = 3
"""Number of failed trials, without any other, that ends a sweep."""

logger = logging.getLogger(__name__)


class TrialScheduler:
    """Decides on trials, and writes its decisions to the journal.

    Args:
        sampler: sampler of the sweep's trials.
        journal: journal of the sweep.
        folder: folder of the sweep.
        epochs: epochs of a whole trial.
        gpus: GPUs of a trial.

    Attributes:
        halted: failure of a storage that stayed unavailable, which ends the session; the same command resumes it.
    """

    def __init__(self, sampler: ConfigSampler, journal: Journal, folder: Path, epochs: int, gpus: int = 0) -> None:
        self._space, self._journal, self._folder, self._gpus = sampler.space, journal, folder, gpus
        self._searcher = Searcher(sampler, journal)
        is_population = self._space.scheduler.algorithm == "pbt"
        self._population = Population(sampler, journal, folder, epochs) if is_population else None
        self._policy = FailurePolicy()
        self._busy: set[int] = set()
        self._exhausted = False
        self._not_before = 0.0
        self.halted: Failure | None = None

    @property
    def busy(self) -> int:
        """Number of trials that have a process."""
        return len(self._busy)

    def next(self) -> Task | None:
        """Return the task of a free process; None if there is none now."""
        if self.is_over() or time.monotonic() < self._not_before:
            return None
        try:
            trial = self._waiting() or self._begin()
        except StorageError as error:
            self._halt(classify(error))
            return None
        if trial is None:
            return None
        self._busy.add(trial.number)
        return Task(trial.number, dict(trial.params), self._checkpoint(trial))

    def is_over(self) -> bool:
        """Tell if no trial will begin any more: all have ended, the budget is spent, or all have failed."""
        all_began = self._exhausted or len(self._journal.trials) >= self._journal.wanted_trials
        has_ended = self.halted is not None or self.is_spent() or self.has_only_failures()
        return has_ended or (all_began and not self._journal.running())

    def has_only_failures(self) -> bool:
        """Tell if all trials that ended failed, and enough of them to expect the same of others."""
        ended = [trial for trial in self._journal.trials if trial.state != "running"]
        enough = min(FAILURES_TO_STOP, self._journal.wanted_trials)
        return len(ended) >= enough and all(trial.state == "failed" for trial in ended)

    def report(self, number: int, epoch: Epoch) -> bool:
        """Record an epoch.

        Args:
            number: number of the trial.
            epoch: report of the epoch.

        Returns:
            True if the process continues with this trial.
        """
        try:
            return self._report(number, epoch)
        except StorageError as error:
            self._halt(classify(error))
            return False

    def _report(self, number: int, epoch: Epoch) -> bool:
        trial = self._journal.trials[number]
        if epoch.epoch <= trial.epoch:  # known from a process that died after it
            return True
        wanted = [objective.metric for objective in self._space.objective] if epoch.evaluated else []
        if missing := [metric for metric in wanted if metric not in epoch.metrics]:
            parts = metric_key(TRAIN, "loss_")  # of the loss
            numbers = ", ".join(key for key in epoch.metrics if not key.startswith(parts)) or "none"
            reason = f"epoch {epoch.epoch}: {', '.join(missing)} is not a number; numbers are {numbers}"
            self.fail(number, Failure(FailureKind.INPUT, reason, final=True))
            return False
        verdict = self._verdict(number, epoch)
        checkpoint = str(Path(epoch.checkpoint).relative_to(self._folder))
        self._journal.write(
            Reported(
                trial=number,
                epoch=epoch.epoch,
                step=epoch.step,
                metrics=epoch.metrics,
                seconds=epoch.seconds,
                checkpoint=checkpoint,
                verdict=verdict,
            )
        )
        waits = self._population is not None and self._population.waits(trial)
        remove_unneeded(self._folder, self._journal, self._space, trial)
        if verdict == "continue" and not waits and self.halted is None:
            return True
        self._busy.discard(number)
        return False

    def fail(self, number: int, failure: Failure) -> None:
        """Record a trial's failure: the trial resumes from its last checkpoint, or fails, or the whole sweep stops.

        The sweep stops if a storage stayed unavailable: no trial caused that, and every other trial would fail too.

        Args:
            number: number of the trial.
            failure: classified failure.
        """
        self._busy.discard(number)
        decision, delay, reason = self._policy.decide(failure, self._journal.trials[number].interruptions)
        if decision is Decision.RAISE and failure.kind is FailureKind.STORAGE:
            self._halt(failure)
            return
        entry: Lost | Failed
        if decision is Decision.RETRY:
            self._not_before = max(self._not_before, time.monotonic() + delay)
            entry = Lost(trial=number, kind=failure.kind, reason=failure.message, delay=delay)
        else:
            error = f"{reason}: {failure.message}" if reason else failure.message
            entry = Failed(trial=number, kind=failure.kind, error=error, details=failure.details)
        try:
            self._journal.write(entry)
        except StorageError as away:
            self._halt(classify(away))

    def _halt(self, failure: Failure) -> None:
        """End the session without an exception, of which Ray Tune would keep the text alone."""
        self.halted = replace(failure, message=failure.message.splitlines()[0])

    def _waiting(self) -> Trial | None:
        """Return a running trial without a process."""
        if self._population is not None:
            return self._population.next(self._busy)
        return next((trial for trial in self._journal.running() if trial.number not in self._busy), None)

    def _checkpoint(self, trial: Trial) -> str | None:
        """Return the checkpoint that a trial resumes from; None if it was removed by hand, to start again."""
        if trial.checkpoint is None or (self._folder / trial.checkpoint).is_dir():
            return str(self._folder / trial.checkpoint) if trial.checkpoint else None
        if trial.exploits:  # a fresh start would not have the weights of the other trial
            return str(self._folder / trial.checkpoint)
        logger.warning(
            "trial %d: %s does not exist any more; the trial starts again",
            trial.number,
            self._folder / trial.checkpoint,
        )
        return None

    def _begin(self) -> Trial | None:
        number = len(self._journal.trials)
        suggestion = self._searcher.suggest() if number < self._journal.wanted_trials else None
        if suggestion is None:
            self._exhausted = number < self._journal.wanted_trials
            return None
        self._journal.write(TrialBegan(trial=number, params=suggestion.params, attributes=suggestion.attributes))
        return self._journal.trials[number]

    def _verdict(self, number: int, epoch: Epoch) -> Verdict:
        if epoch.finished:
            return "finished"
        if self._space.prunes and epoch.evaluated and ends(self._scores(number, epoch), self._space.scheduler):
            return "pruned"
        return "stopped" if self.is_spent(epoch.seconds) else "continue"

    def _scores(self, number: int, epoch: Epoch) -> list[Score]:
        """Return all scores so far, and that of this epoch."""
        objective = self._space.objective[0]
        reports = [entry for entry in self._journal.entries if isinstance(entry, Reported)]
        known = [(r.trial, r.epoch, r.metrics) for r in reports if objective.metric in r.metrics]
        return [
            Score(t, e, objective.sign * m[objective.metric])
            for t, e, m in (*known, (number, epoch.epoch, epoch.metrics))
        ]

    def is_spent(self, more: float = 0.0) -> bool:
        """Tell if the hours of the budget are used up; `more` are seconds of a trial that the journal lacks."""
        return self._journal.is_spent(self._space.budget, self._gpus, more)
