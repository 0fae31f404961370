"""A sweep in MLflow: a run for the sweep, and within it one for each trial."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from mrqm.config import Config
from mrqm.errors import MrqmError
from pipelines.registry.register import RegisteredModel, register_if_possible
from pipelines.storage.run_dir import RunFolder
from pipelines.tracking.client import equals
from pipelines.tracking.errors import STORE_ERRORS, explain
from pipelines.tracking.mlflow_names import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE
from pipelines.tracking.tracker import SHORT_PATIENCE, Tracker
from tune.execution.trainable import trial_config
from tune.space.schema import Params
from tune.state.history import History, Trial
from tune.state.messages import Task
from tune.state.records import AnyEntry, Failed, GenerationEnded, Reported, Retried

logger = logging.getLogger(__name__)
ERROR_LENGTH = 5000
SECONDS_BETWEEN_ATTEMPTS = 15.0
"""To reach an MLflow that does not answer."""


class TrialFailedError(MrqmError):
    """What ends the MLflow run of a failed trial as FAILED."""


class Recorder:
    """Writes what happens to MLflow, in a thread, so that no trial waits for it.

    What a trial's run lacks is found by comparing it with the history: entries that came while MLflow was away are
    written with the first that comes when it answers.

    Args:
        config: of the sweep; its name is the parent run's.
        trials_config: what all trials share.
        history: of the sweep; it grows.
        tags: of all its runs.

    Raises:
        TrackingError: the store cannot be used.
    """

    def __init__(self, config: Config, trials_config: Config, history: History, tags: Mapping[str, str]) -> None:
        self._name, self._config, self._history, self._tags = config.name, trials_config, history, tags
        self.sweep = Tracker(config, RunFolder(config), tags={"mlflow.source.name": "mrqm tune", **tags})
        self._open: dict[int, _TrialRun] = {}
        self._thread = ThreadPoolExecutor(1)
        self._written: list[Future[None]] = []
        self._behind: set[int] = set()
        """Trials of which MLflow has not everything."""
        self._complete: set[int] = set()
        """Trials that ended and of which it has."""
        self._away_since: float | None = None
        self._was_away = False

    def __enter__(self) -> Self:
        self.sweep.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(kind or KeyboardInterrupt, error)
        self.sweep.__exit__(kind, error, trace)

    def finish(self, kind: type[BaseException] | None = None, error: BaseException | None = None) -> None:
        """Wait until everything is written; end the runs of trials that have not ended."""
        if kind is None:
            self._written.append(self._thread.submit(self._make_good))
        self._thread.shutdown()
        for written in self._written:
            written.result()  # raises what nobody foresaw
        self._written.clear()
        for run in self._open.values():
            run.tracker.__exit__(kind, error, None)
        self._open.clear()

    def catch_up(self) -> None:
        """Write what the journal has and MLflow has not: its store, or an earlier driver, went away too soon."""
        self._later(self._catch_up, *range(len(self._history.trials)))

    @property
    def unsent(self) -> int:
        """Runs, of trials or of the sweep, of which MLflow has not everything."""
        return len(self._behind) + (self.sweep.pending > 0)

    def register(self, trial: Trial, checkpoint: Path, metrics: Mapping[str, float]) -> RegisteredModel | None:
        """Register a checkpoint of a trial; None if MLflow does not take it, which costs the sweep nothing.

        Args:
            trial: in whose run the model is logged.
            checkpoint: folder of the model.
            metrics: of the checkpoint.
        """
        scores = {name: value for name, value in metrics.items() if not name.startswith("train/")}
        lineage = {"sweep.name": self._name, "sweep.run_id": self.sweep.run_id, "sweep.trial": str(trial.number)}
        try:
            with self.trial(trial) as tracker:
                return register_if_possible(self._config, tracker, checkpoint, scores, {**self._tags, **lineage})
        except STORE_ERRORS as error:
            logger.warning("MLflow did not take the model: %s", explain(error)[0])
            return None

    def conclude(self, report: Path, best: Reported, note: str) -> None:
        """Give the sweep's run the best trial's metrics, the report, and a note of what came of it."""
        self.sweep.tag({MLFLOW_RUN_NOTE: note})
        self.sweep.log_metrics(best.metrics, best.step)
        self.sweep.log_file(report)

    def __call__(self, entry: AnyEntry) -> None:
        """Write an entry of the journal, soon."""
        match entry:
            case Retried(trial=number):
                self._later(partial(self._complete.discard, number))
            case Reported(trial=number) | Failed(trial=number):
                self._later(partial(self._write, number), number)
            case GenerationEnded(exploits=exploits):
                for exploit in exploits:
                    self._later(partial(self._write, exploit.trial), exploit.trial)

    def trial(self, trial: Trial) -> Tracker:
        """The MLflow run of a trial, to go on with."""
        config, folder = self._trial_config(trial), self._folder(trial)
        folder.path.mkdir(parents=True, exist_ok=True)
        lineage = {"sweep.name": self._name, "sweep.trial": str(trial.number), "mlflow.source.name": "mrqm tune"}
        tags = {**self._tags, **lineage, **_searched(trial.params)}
        return Tracker(config, folder, parent=self.sweep.run_id, tags=tags, patience=SHORT_PATIENCE)

    def _trial_config(self, trial: Trial) -> Config:
        return trial_config(self._config, Task(trial.number, trial.params, None))

    def _folder(self, trial: Trial) -> RunFolder:
        return RunFolder(self._trial_config(trial))

    def _later(self, write: Callable[[], None], *trials: int) -> None:
        """Write in the thread what concerns some trials."""
        self._written.append(self._thread.submit(self._attempt, write, trials))

    def _attempt(self, write: Callable[[], object], trials: Collection[int]) -> None:
        """Write now; the sweep does not end because MLflow went away: the journal has everything."""
        since = self._away_since
        if since is None or time.monotonic() - since >= SECONDS_BETWEEN_ATTEMPTS:
            try:
                write()
                self._away_since = None
                return
            except STORE_ERRORS as error:
                self._away_since, self._was_away = time.monotonic(), True
                if since is None:
                    logger.warning("MLflow: %s; the sweep goes on and writes it later", explain(error)[0])
        self._behind.update(trials)

    def _make_good(self) -> None:
        """Write at the end what could not be written when it happened, as far as MLflow answers now."""
        self._away_since = None
        if self._was_away:  # perhaps while it made a run
            self._attempt(self._recorded_states, ())
        for number in sorted(self._behind):
            self._behind.discard(number)
            self._attempt(partial(self._write, number), [number])
            if number in self._behind:
                logger.warning(
                    "MLflow has not everything of %d trials; the same command, after the sweep too, writes it",
                    len(self._behind),
                )
                return

    def _catch_up(self) -> None:
        for number, state in self._recorded_states().items():
            trial = self._history.trials[number]
            if state == trial.state:
                self._complete.add(number)
            elif trial.results or trial.error:
                self._write(number)

    def _recorded_states(self) -> dict[int, str | None]:
        """What the runs of trials say of them; runs that nobody remembers are removed."""
        client, mine = self.sweep.client, equals(f"tags.`{MLFLOW_PARENT_RUN_ID}`", self.sweep.run_id)
        runs = client.runs([client.get_run(self.sweep.run_id).info.experiment_id], mine)
        states = {run.info.run_id: run.data.tags.get("sweep.state") for run in runs}
        trials = list(self._history.trials)
        known = {trial.number: self._folder(trial).read_mlflow_run(self.sweep.shown_uri) for trial in trials}
        for orphan in states.keys() - set(known.values()):  # driver or store died before it could be remembered
            client.delete_run(orphan)
        return {number: states.get(run_id or "") for number, run_id in known.items()}

    def _write(self, number: int) -> None:
        """Bring a trial's run to where the history is, and end it if the trial has ended."""
        if number in self._complete:
            return
        trial = self._history.trials[number]
        ended = trial.state != "running"  # looked at first: its last result came before
        if number not in self._open:
            self._open[number] = _TrialRun(self.trial(trial))
        self._open[number].follow(trial)
        self._behind.discard(number)
        if ended:
            self._end(trial)

    def _end(self, trial: Trial) -> None:
        tracker = self._open.pop(trial.number).tracker
        error = TrialFailedError(trial.error) if trial.error else None
        if trial.failure:
            text = "\n".join([trial.failure.message, trial.failure.details])
            tracker.tag({"sweep.error": text[:ERROR_LENGTH].strip(), "sweep.failure": trial.failure.kind})
        elif trial.retries:
            tracker.tag({"sweep.error": "", "sweep.failure": ""})
        tracker.tag({"sweep.state": trial.state})
        tracker.__exit__(type(error) if error else None, error, None)
        (self._behind if tracker.pending else self._complete).add(trial.number)


@dataclass
class _TrialRun:
    """A trial's MLflow run, and how much of the trial's history it was told by this process."""

    tracker: Tracker
    results: int = 0
    exploits: int = 0

    def follow(self, trial: Trial) -> None:
        """Tell it the rest; what an earlier process told it is left out by its journal."""
        results, exploits = trial.results[self.results :], trial.exploits[self.exploits :]
        for result in results:
            self.tracker.log_metrics({"epoch": result.epoch, **result.metrics}, result.step)
        for epoch, exploit in exploits:
            self.tracker.tag(
                {"sweep.exploited": f"{exploit.source_trial} at epoch {epoch}"} | _searched(exploit.params)
            )
        self.results += len(results)
        self.exploits += len(exploits)


def _searched(params: Params) -> dict[str, str]:
    return {f"sweep.{key}": str(value) for key, value in params.items()}
