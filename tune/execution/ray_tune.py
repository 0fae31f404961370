"""Execution of trials by Ray Tune, whose own trials are processes that work on the tasks of the trial scheduler.

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
"""Seconds without a running trial after which the reason is shown."""


def run_trials(
    scheduler: TrialScheduler,
    space: Space,
    config: Config,
    say: Callable[[str], None],
    trial: type[SweepTrial] = SweepTrial,
) -> None:
    """Run the trials of a sweep until its scheduler has no more of them.

    Args:
        scheduler: scheduler that suggests trials and decides on their reports.
        space: space of the sweep.
        config: configuration of all trials; `output_dir` is the sweep's folder.
        say: printer of the reasons for which trials wait.
        trial: Ray Tune trainable that works on a task.
    """
    storage = Path(config.output_dir) / ".tune"
    costs = any(objective.metric in COSTS for objective in space.objective)
    trainable = ray.tune.with_resources(
        ray.tune.with_parameters(trial, base=config, costs=costs), trial_resources(config.scaling)
    )
    tuner = Tuner(
        trainable,
        tune_config=TuneConfig(
            search_alg=_SearchAlgorithm(scheduler, Capacity(config.scaling)), num_samples=-1,
            scheduler=_SchedulerAdapter(scheduler, config.scaling, say),
            # a process that starts workers cannot be reused
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
        shutil.rmtree(storage, ignore_errors=True)  # useful only to Ray Tune's own restart


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Tune from printing a traceback for each failure, which the scheduler reports in a sentence."""
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
    """Return the resources of a trial's process: a worker's, or next to none if Ray Train reserves the workers'."""
    if scaling.max_workers > 1:
        return PlacementGroupFactory([{"memory": 1_000_000}])
    return PlacementGroupFactory([{"CPU": scaling.cpus_per_worker, **({"GPU": 1} if scaling.use_gpu else {})}])


class Capacity:
    """The number of trials that the cluster has room for, counted again as it grows and shrinks; at least one.

    Resources in use by others are not subtracted: trials wait for them in Ray's queue, which reserves all of a trial's
    resources together or none.
    """

    def __init__(self, scaling: ScalingConfig) -> None:
        self._scaling = scaling
        self._counted = -SECONDS_BETWEEN_COUNTS
        self._trials = 1

    def __call__(self) -> int:
        """Return the number, at most five seconds old."""
        now = time.monotonic()
        if now - self._counted >= SECONDS_BETWEEN_COUNTS:
            self._trials, self._counted = max(1, count_trials(cluster_nodes(), self._scaling)), now
        return self._trials


class _Unsaved:
    """An object without pickled state: Ray Tune pickles it for its own restart; sweeps restart from their journal."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _SearchAlgorithm(_Unsaved, Searcher):
    """Suggests the scheduler's tasks to Ray Tune, as many at the same time as the cluster has room for."""

    def __init__(self, scheduler: TrialScheduler, capacity: Callable[[], int]) -> None:
        super().__init__()
        self._scheduler, self._capacity = scheduler, capacity

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return a task, None if there is none now, or FINISHED if the sweep is over."""
        if self._scheduler.busy < self._capacity() and (task := self._scheduler.next()):
            return {"task": task}
        return Searcher.FINISHED if self._scheduler.is_over() else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the scheduler adapter reports to the scheduler."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the journal is the state."""


class _SchedulerAdapter(_Unsaved, FIFOScheduler):
    """Reports results and failures of trials to the scheduler, and its decisions to Ray Tune."""

    def __init__(self, scheduler: TrialScheduler, scaling: ScalingConfig, say: Callable[[str], None]) -> None:
        super().__init__()
        self._scheduler, self._scaling, self._say = scheduler, scaling, say
        self._asked = time.monotonic()
        self._said: dict[int, str] = {}

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Choose the next trial without a process; called often, so that it notices a sweep without running trials."""
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

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Decide on an epoch, a failure or a reason to wait.

        Args:
            tune_controller: controller of Ray Tune; unused.
            trial: Ray Tune's trial.
            result: result of the trainable's `step`.

        Returns:
            Ray Tune's decision, CONTINUE or STOP.
        """
        number = trial.config["task"].trial
        if shortage := result.get("waiting"):
            self._say_once(number, shortage)
            return str(RayTrialScheduler.STOP if self._scheduler.halted else RayTrialScheduler.CONTINUE)
        if failure := result.get("failure"):
            self._scheduler.fail(number, failure)
            return str(RayTrialScheduler.STOP)
        proceeds = self._scheduler.report(number, result["epoch"])
        return str(RayTrialScheduler.CONTINUE if proceeds else RayTrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Report a process that died, or raised an error after which it is not reused.

        Args:
            tune_controller: controller of Ray Tune; unused.
            trial: Ray Tune's trial.
        """
        self._scheduler.fail(trial.config["task"].trial, _read_failure(trial))


def _read_failure(trial: Trial) -> Failure:
    """Read the error of a trial from this machine's files, which `Trial.get_pickled_error` reads only once copied.

    For errors that Ray Tune cannot pickle, such as one of memory, it keeps the text alone, after a line of its own.
    """
    if trial.pickled_error_file:
        return classify(ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes()))
    text = Path(trial.error_file).read_text() if trial.error_file else ""
    return classify_text(text.partition("\n")[2] or "an error without a description by Ray Tune")
