"""What happens next in a sweep: which trial a free process works on, whether one that reported goes on.

It knows neither Ray nor processes; all it knows is in the journal. A trial that lost its process, one that an earlier
session left unfinished and one of a population that begins its next generation are all the same to it: trials that
nobody works on, with a checkpoint to go on from.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

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

HOPELESS = 3
"""So many failed trials and no other end a sweep."""

logger = logging.getLogger(__name__)


class TrialScheduler:
    """Decides, and writes what it decided.

    Args:
        candidates: what trials may be.
        journal: of the sweep.
        folder: of the sweep.
        epochs: of a whole trial.
        gpus: that a trial takes.

    Attributes:
        halted: failure of a storage that stayed away, which ends the session; the same command goes on.
    """

    def __init__(self, candidates: ConfigSampler, journal: Journal, folder: Path, epochs: int, gpus: int = 0) -> None:
        self._space, self._journal, self._folder, self._gpus = candidates.space, journal, folder, gpus
        self._searcher = Searcher(candidates, journal)
        is_population = self._space.scheduler.algorithm == "pbt"
        self._population = Population(candidates, journal, folder, epochs) if is_population else None
        self._policy = FailurePolicy()
        self._busy: set[int] = set()
        self._exhausted = False
        self._not_before = 0.0
        self.halted: Failure | None = None

    @property
    def busy(self) -> int:
        """Trials that processes work on."""
        return len(self._busy)

    def next(self) -> Task | None:
        """Work for a free process; None if there is none, now or any more."""
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
        """Whether nothing will begin any more, because all is done, the budget is spent or there is no hope."""
        all_began = self._exhausted or len(self._journal.trials) >= self._journal.wanted_trials
        has_ended = self.halted is not None or self.is_spent() or self.is_hopeless()
        return has_ended or (all_began and not self._journal.running())

    def is_hopeless(self) -> bool:
        """Whether all trials that ended failed, and enough of them to believe it."""
        ended = [trial for trial in self._journal.trials if trial.state != "running"]
        enough = min(HOPELESS, self._journal.wanted_trials)
        return len(ended) >= enough and all(trial.state == "failed" for trial in ended)

    def report(self, number: int, epoch: Epoch) -> bool:
        """Take note of an epoch; says whether the process goes on with this trial."""
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
            numbers = ", ".join(name for name in epoch.metrics if not name.startswith("train/loss_")) or "none"
            reason = f"epoch {epoch.epoch}: {', '.join(missing)} is not a number; numbers are {numbers}"
            self.fail(number, Failure(FailureKind.INPUT, reason, final=True))
            return False
        verdict = self._judge(number, epoch)
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
        rests = self._population is not None and self._population.rests(trial)
        remove_unneeded(self._folder, self._journal, self._space, trial)
        if verdict == "continue" and not rests and self.halted is None:
            return True
        self._busy.discard(number)
        return False

    def fail(self, number: int, failure: Failure) -> None:
        """Take note of a trial's failure: it goes on from its last checkpoint, or fails, or the whole sweep stops.

        The sweep stops where a storage stayed away: that is no trial's fault, and no other trial would fare better.
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
        """Let nothing begin or go on any more in this session: an exception would pass through Ray Tune as a text."""
        self.halted = replace(failure, message=failure.message.splitlines()[0])

    def _waiting(self) -> Trial | None:
        """A trial that began and that nobody works on."""
        if self._population is not None:
            return self._population.next(self._busy)
        return next((trial for trial in self._journal.running() if trial.number not in self._busy), None)

    def _checkpoint(self, trial: Trial) -> str | None:
        """The checkpoint from which a trial goes on; None lets it begin again, where its own was removed by hand."""
        if trial.checkpoint is None or (self._folder / trial.checkpoint).is_dir():
            return str(self._folder / trial.checkpoint) if trial.checkpoint else None
        if trial.exploits:  # it cannot come again to where it took over another trial's weights
            return str(self._folder / trial.checkpoint)
        logger.warning("trial %d: %s is gone; it begins again", trial.number, self._folder / trial.checkpoint)
        return None

    def _begin(self) -> Trial | None:
        number = len(self._journal.trials)
        suggestion = self._searcher.suggest() if number < self._journal.wanted_trials else None
        if suggestion is None:
            self._exhausted = number < self._journal.wanted_trials
            return None
        self._journal.write(TrialBegan(trial=number, params=suggestion.params, attributes=suggestion.attributes))
        return self._journal.trials[number]

    def _judge(self, number: int, epoch: Epoch) -> Verdict:
        if epoch.finished:
            return "finished"
        if self._space.prunes and epoch.evaluated and ends(self._scores(number, epoch), self._space.scheduler):
            return "pruned"
        return "stopped" if self.is_spent(epoch.seconds) else "continue"

    def _scores(self, number: int, epoch: Epoch) -> list[Score]:
        """All there were, and this one."""
        objective = self._space.objective[0]
        reports = [entry for entry in self._journal.entries if isinstance(entry, Reported)]
        known = [(r.trial, r.epoch, r.metrics) for r in reports if objective.metric in r.metrics]
        return [
            Score(t, e, objective.sign * m[objective.metric])
            for t, e, m in (*known, (number, epoch.epoch, epoch.metrics))
        ]

    def is_spent(self, more: float = 0.0) -> bool:
        """Whether the hours of the budget are used up; `more` seconds of a trial are not in the journal yet."""
        return self._journal.is_spent(self._space.budget, self._gpus, more)
