"""The MLflow runs of a sweep: a parent run for the sweep, and a child run for each trial."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from mrqm.config import Config
from mrqm.errors import MrqmError
from mrqm.structures.metric import TRAIN, by_key, read_metrics
from pipelines.registry.register import RegisteredModel, register_if_possible
from pipelines.storage.ancestors import read_record
from pipelines.storage.filesystem import open_storage
from pipelines.storage.run_dir import RunFolder
from pipelines.tracking.client import equals
from pipelines.tracking.errors import STORE_ERRORS, explain
from pipelines.tracking.mlflow_names import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE
from pipelines.tracking.tracker import SHORT_PATIENCE, Tracker
from tune.execution.trainable import trial_config
from tune.report.trial_run import TrialRun, searched_tags
from tune.state.history import History, Trial
from tune.state.messages import Task
from tune.state.records import AnyEntry, Failed, GenerationEnded, Reported, Retried

logger = logging.getLogger(__name__)
ERROR_LENGTH = 5000
SECONDS_BETWEEN_ATTEMPTS = 15.0
"""Seconds between attempts to reach an MLflow that does not answer."""


class TrialFailedError(MrqmError):
    """A failed trial, whose MLflow run ends as FAILED."""


class Recorder:
    """Writes the journal's entries to MLflow, in a thread, so that no trial waits for it.

    The missing part of a trial's run is found by comparison with the history: entries that came while MLflow was
    unavailable are written with the first entry after it answers again.

    Args:
        config: configuration of the sweep; its name is the parent run's.
        trials_config: configuration that all trials share.
        history: history of the sweep, which grows.
        tags: tags of all the sweep's runs.

    Raises:
        TrackingError: the store cannot be used.
    """

    def __init__(self, config: Config, trials_config: Config, history: History, tags: Mapping[str, str]) -> None:
        self._name, self._config, self._history, self._tags = config.name, trials_config, history, tags
        self.sweep = Tracker(config, RunFolder(config), tags={"mlflow.source.name": "mrqm tune", **tags})
        self._open: dict[int, TrialRun] = {}
        self._thread = ThreadPoolExecutor(1)
        self._written: list[Future[None]] = []
        self._behind: set[int] = set()
        """Trials whose runs are incomplete."""
        self._complete: set[int] = set()
        """Trials that ended and whose runs are complete."""
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
        """Wait until everything is written; end the runs of trials that have not ended.

        Args:
            kind: type of the error that ends the sweep; None without one.
            error: error that ends the sweep; None without one.
        """
        if kind is None:
            self._written.append(self._thread.submit(self._write_missing))
        self._thread.shutdown()
        for written in self._written:
            written.result()  # raises unexpected errors
        self._written.clear()
        for run in self._open.values():
            run.tracker.__exit__(kind, error, None)
        self._open.clear()

    def catch_up(self) -> None:
        """Write the entries that MLflow lacks because its store was unavailable or an earlier driver died."""
        self._later(self._catch_up, *range(len(self._history.trials)))

    @property
    def unsent(self) -> int:
        """Number of incomplete runs, of trials or of the sweep."""
        return len(self._behind) + (self.sweep.pending > 0)

    def register(self, trial: Trial, checkpoint: Path, metrics: Mapping[str, float]) -> RegisteredModel | None:
        """Register a checkpoint of a trial.

        Args:
            trial: trial whose run the model is logged to.
            checkpoint: folder of the model.
            metrics: metrics of the checkpoint, by name.

        Returns:
            The model; None if MLflow did not accept it, which does not end the sweep.
        """
        scores = by_key(metric for metric in read_metrics(metrics) if metric.protocol != TRAIN)
        lineage = {"sweep.name": self._name, "sweep.run_id": self.sweep.run_id, "sweep.trial": str(trial.number)}
        lineage |= self._ancestor_tags(trial)
        try:
            with self.trial(trial) as tracker:
                return register_if_possible(self._config, tracker, checkpoint, scores, {**self._tags, **lineage})
        except STORE_ERRORS as error:
            logger.warning("MLflow did not accept the model: %s", explain(error)[0])
            return None

    def conclude(self, report: Path, best: Reported, note: str) -> None:
        """Log the best trial's metrics, the report and a summary to the sweep's run.

        Args:
            report: path of the report.
            best: best result of the best trial.
            note: summary in Markdown.
        """
        self.sweep.tag({MLFLOW_RUN_NOTE: note})
        self.sweep.log_metrics(best.metrics, best.step)
        self.sweep.log_file(report)

    def __call__(self, entry: AnyEntry) -> None:
        """Submit an entry of the journal to the thread."""
        match entry:
            case Retried(trial=number):
                self._later(partial(self._complete.discard, number))
            case Reported(trial=number) | Failed(trial=number):
                self._later(partial(self._write, number), number)
            case GenerationEnded(exploits=exploits):
                for exploit in exploits:
                    self._later(partial(self._write, exploit.trial), exploit.trial)

    def trial(self, trial: Trial) -> Tracker:
        """Open the MLflow run of a trial, which may exist already."""
        config, folder = self._trial_config(trial), self._folder(trial)
        folder.path.mkdir(parents=True, exist_ok=True)
        lineage = {"sweep.name": self._name, "sweep.trial": str(trial.number), "mlflow.source.name": "mrqm tune"}
        tags = {**self._tags, **lineage, **self._ancestor_tags(trial), **searched_tags(trial.params)}
        return Tracker(config, folder, parent=self.sweep.run_id, tags=tags, patience=SHORT_PATIENCE)

    def _trial_config(self, trial: Trial) -> Config:
        return trial_config(self._config, Task(trial.number, trial.params, None))

    def _ancestor_tags(self, trial: Trial) -> dict[str, str]:
        """Make the tags for the detector that a trial starts from, of which the sweep's folder has a copy."""
        init = self._trial_config(trial).model.init
        record = read_record(open_storage(self._config.output_dir, "."), init) if init else None
        return record.tags if record else {}

    def _folder(self, trial: Trial) -> RunFolder:
        return RunFolder(self._trial_config(trial))

    def _later(self, write: Callable[[], None], *trials: int) -> None:
        """Submit a write that concerns some trials to the thread."""
        self._written.append(self._thread.submit(self._attempt, write, trials))

    def _attempt(self, write: Callable[[], object], trials: Collection[int]) -> None:
        """Write now; an MLflow that is unavailable does not end the sweep, as the journal has everything."""
        since = self._away_since
        if since is None or time.monotonic() - since >= SECONDS_BETWEEN_ATTEMPTS:
            try:
                write()
                self._away_since = None
                return
            except STORE_ERRORS as error:
                self._away_since, self._was_away = time.monotonic(), True
                if since is None:
                    logger.warning("MLflow: %s; the sweep continues and writes it later", explain(error)[0])
        self._behind.update(trials)

    def _write_missing(self) -> None:
        """Write at the end what could not be written earlier, as far as MLflow answers now."""
        self._away_since = None
        if self._was_away:  # perhaps while a run was created
            self._attempt(self._recorded_states, ())
        for number in sorted(self._behind):
            self._behind.discard(number)
            self._attempt(partial(self._write, number), [number])
            if number in self._behind:
                logger.warning(
                    "MLflow lacks a part of %d trials; the same command, after the sweep too, writes it",
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
        """Read the state of each trial from its run; remove runs that belong to no trial."""
        client, mine = self.sweep.client, equals(f"tags.`{MLFLOW_PARENT_RUN_ID}`", self.sweep.run_id)
        runs = client.runs([client.get_run(self.sweep.run_id).info.experiment_id], mine)
        states = {run.info.run_id: run.data.tags.get("sweep.state") for run in runs}
        trials = list(self._history.trials)
        known = {trial.number: self._folder(trial).read_mlflow_run(self.sweep.shown_uri) for trial in trials}
        for orphan in states.keys() - set(known.values()):  # driver or store died before the run's id was written
            client.delete_run(orphan)
        return {number: states.get(run_id or "") for number, run_id in known.items()}

    def _write(self, number: int) -> None:
        """Update a trial's run from the history, and end it if the trial has ended."""
        if number in self._complete:
            return
        trial = self._history.trials[number]
        ended = trial.state != "running"  # read first: its last result came before
        if number not in self._open:
            self._open[number] = TrialRun(self.trial(trial))
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
