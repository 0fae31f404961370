"""Ray Tune runs the trials: it keeps their processes, Tune's trials, which work on whatever a conductor hands out.

One trial of the sweep may be several of Ray Tune's: after its process died, or in a population whose trials take turns.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray.cloudpickle
import ray.tune
from ray.tune import CheckpointConfig, FailureConfig, PlacementGroupFactory, RunConfig, TuneConfig, Tuner
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.schedulers import TrialScheduler as RayTrialScheduler
from ray.tune.search import Searcher
from ray.util import placement_group_table

from mrqm.config import Config, ScalingConfig
from pipelines.compute.resources import cluster_nodes, describe_shortage
from pipelines.failures.classification import classify, classify_text
from pipelines.failures.taxonomy import Failure
from tune.execution.concurrency import count_trials
from tune.execution.trainable import SweepTrial
from tune.search.trial_scheduler import TrialScheduler
from tune.space.model_cost import COSTS
from tune.space.schema import Space

SECONDS_BETWEEN_COUNTS = 5.0
SECONDS_OF_PATIENCE = 10.0
"""After which a trial that has no process is looked into."""


def run_trials(
    conductor: TrialScheduler,
    space: Space,
    config: Config,
    say: Callable[[str], None],
    trial: type[SweepTrial] = SweepTrial,
) -> None:
    """Work on a sweep until its conductor has nothing more to do.

    Args:
        conductor: hands out trials and judges what they report.
        space: what is searched.
        config: of all trials; `output` is the sweep's folder.
        say: shows the user why a trial waits.
        trial: what a process does with a task.
    """
    storage = Path(config.output_dir) / ".tune"
    costs = any(objective.metric in COSTS for objective in space.objective)
    trainable = ray.tune.with_resources(
        ray.tune.with_parameters(trial, base=config, costs=costs), trial_resources(config.scaling)
    )
    tuner = Tuner(
        trainable,
        tune_config=TuneConfig(
            search_alg=_SearchAlgorithm(conductor, Capacity(config.scaling)), num_samples=-1,
            scheduler=_SchedulerAdapter(conductor, config.scaling, say),
            # a process that starts workers ends with them
            reuse_actors=config.scaling.max_workers == 1, trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=RunConfig(
            name="ray", storage_path=str(storage), verbose=0,
            failure_config=FailureConfig(max_failures=0),
            checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )  # fmt: skip
    try:
        with _quiet():
            tuner.fit()
    finally:
        shutil.rmtree(storage, ignore_errors=True)  # of use only to Ray Tune's own restart


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Tune from printing a traceback for each failure, of which the conductor says what matters."""
    loggers = [logging.getLogger(f"ray.tune.{name}") for name in ("tune", "execution.tune_controller")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def trial_resources(scaling: ScalingConfig) -> PlacementGroupFactory:
    """What Ray Tune reserves for a trial: a worker's part, or next to nothing where Ray Train reserves the workers'."""
    if scaling.max_workers > 1:
        return PlacementGroupFactory([{"memory": 1_000_000}])
    return PlacementGroupFactory([{"CPU": scaling.cpus_per_worker, **({"GPU": 1} if scaling.use_gpu else {})}])


class Capacity:
    """Trials that the cluster has room for, counted anew as it grows and shrinks; at least one.

    Others on the cluster make trials wait in Ray's queue, whole: what a trial needs is reserved together or not at all.
    """

    def __init__(self, scaling: ScalingConfig) -> None:
        self._scaling = scaling
        self._counted = -SECONDS_BETWEEN_COUNTS
        self._trials = 1

    def __call__(self) -> int:
        """The number, at most five seconds old."""
        now = time.monotonic()
        if now - self._counted >= SECONDS_BETWEEN_COUNTS:
            self._trials, self._counted = max(1, count_trials(cluster_nodes(), self._scaling)), now
        return self._trials


class _Unsaved:
    """Ray Tune pickles what it is given, for a restart of its own; here the journal is what a restart needs."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _SearchAlgorithm(_Unsaved, Searcher):
    """Hands trials to Ray Tune, one for each free place."""

    def __init__(self, conductor: TrialScheduler, places: Callable[[], int]) -> None:
        super().__init__()
        self._conductor, self._places = conductor, places

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A task, nothing now, or nothing ever."""
        if self._conductor.busy < self._places() and (task := self._conductor.next()):
            return {"task": task}
        return Searcher.FINISHED if self._conductor.is_over() else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the scheduler tells the conductor."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is saved."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal is read."""


class _SchedulerAdapter(_Unsaved, FIFOScheduler):
    """Tells the conductor what happens to trials, and Ray Tune what the conductor says to it."""

    def __init__(self, conductor: TrialScheduler, scaling: ScalingConfig, say: Callable[[str], None]) -> None:
        super().__init__()
        self._conductor, self._scaling, self._say = conductor, scaling, say
        self._asked = time.monotonic()
        self._said: dict[int, str] = {}

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """The next one without a process; called all the time, so that it notices a sweep of which nothing runs."""
        chosen = super().choose_trial_to_run(tune_controller)
        if chosen is None or any(trial.status == Trial.RUNNING for trial in tune_controller.get_trials()):
            self._asked = time.monotonic()
        elif time.monotonic() - self._asked >= SECONDS_OF_PATIENCE:
            self._asked = time.monotonic()
            if any(group["state"] == "PENDING" for group in placement_group_table().values()):
                self._say_once(chosen.config["task"].trial, describe_shortage(self._scaling))
        return chosen

    def _say_once(self, number: int, text: str) -> None:
        if self._said.get(number) != text:
            self._said[number] = text
            self._say(f"trial {number:<4}{text}")

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """An epoch is done, or cannot be."""
        number = trial.config["task"].trial
        if shortage := result.get("waiting"):
            self._say_once(number, shortage)
            return str(RayTrialScheduler.STOP if self._conductor.halted else RayTrialScheduler.CONTINUE)
        if failure := result.get("failure"):
            self._conductor.fail(number, failure)
            return str(RayTrialScheduler.STOP)
        goes_on = self._conductor.report(number, result["epoch"])
        return str(RayTrialScheduler.CONTINUE if goes_on else RayTrialScheduler.STOP)

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """A process died, or raised an error after which it is not used again."""
        self._conductor.fail(trial.config["task"].trial, _read_failure(trial))


def _read_failure(trial: Trial) -> Failure:
    """Read what ended a trial from this machine's files: `Trial.get_pickled_error` looks where these are copied later.

    Of errors that Ray Tune does not know, as of too little memory, it keeps the text alone, behind a line of its own.
    """
    if trial.pickled_error_file:
        return classify(ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes()))
    text = Path(trial.error_file).read_text() if trial.error_file else ""
    return classify_text(text.partition("\n")[2] or "an error that Ray Tune does not name")
