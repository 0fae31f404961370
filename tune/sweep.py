"""A sweep from the first check to the registered model; the same call resumes one that was stopped.

runs/demo-mrqm/
  config.yaml, space.yaml   configuration and space, for readers
  fingerprint.json          identity of the sweep, see `tune.state.fingerprint`
  sweep.jsonl               journal of all events
  trial-0003/epoch_0009/    checkpoints of running trials and of the best
  report.html
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from mrqm.config import Config
from mrqm.data import DetectionDataset
from mrqm.errors import UserError
from pipelines.compute.resources import cluster_nodes, require_room, shortages
from pipelines.compute.session import ray_session
from pipelines.console.format import command
from pipelines.console.training_display import Display
from pipelines.failures.storage_wait import storage_faults_explained, write_patiently
from pipelines.failures.taxonomy import FailureKind
from pipelines.preflight.inputs import check_inputs
from pipelines.process.job_cwd import as_submitted
from pipelines.process.signals import stoppable
from pipelines.storage.absolute_paths import with_absolute_paths
from pipelines.storage.data_cache import data_cache
from pipelines.storage.filesystem import StorageError
from pipelines.storage.fingerprint import describe_unknown, require_same
from pipelines.storage.run_dir import RunFolder
from pipelines.tracking.dataset_inputs import note_datasets
from pipelines.tracking.tracker import require_store
from tune.execution.ray_tune import run_trials
from tune.report.html import describe_sweep, write_report
from tune.report.live_table import LiveTable
from tune.report.mlflow_recorder import Recorder
from tune.report.plan import Plan, count_wanted, make_plan, print_plan
from tune.report.result import SweepResult
from tune.search.trial_scheduler import TrialScheduler
from tune.search.warm_start import PriorRuns, find_prior_runs
from tune.space.sampling import ConfigSampler
from tune.space.schema import Space, load_space, overrides, sweep_config
from tune.state.fingerprint import SweepFingerprint, begin_sweep, fingerprint_of
from tune.state.history import History
from tune.state.journal import JOURNAL, Journal, read_history
from tune.state.records import Retried, SessionBegan, WarmStarted

RESUME_REMEDY = "free space or repair the storage, then repeat the command to resume from the last checkpoints"

logger = logging.getLogger(__name__)


class SweepError(UserError):
    """A sweep from which nothing can be learned."""


@dataclass(frozen=True)
class Request:
    """A sweep as the command line describes it.

    Attributes:
        config: path of the configuration.
        space: path of the space.
        words: overrides, `key=value`.
        add_trials: number of trials to add to a finished sweep.
        retry_failed: True to run failed trials again.
        dry_run: True to stop after the plan.
    """

    config: Path
    space: Path
    words: Sequence[str] = ()
    add_trials: int = 0
    retry_failed: bool = False
    dry_run: bool = False


def sweep(request: Request, console: Console) -> SweepResult | None:
    """Search, report the results and register the best model.

    Args:
        request: sweep to run.
        console: console for plan, progress and notes.

    Returns:
        The result; None after a dry run.

    Raises:
        ConfigError, SpaceError, DataError, RunError, ResourceError, TrackingError: the sweep cannot start; the message
            names what to change.
        SweepError: no trial has a result.
        StorageError: a disk was full, or a store unavailable, for too long; the same call resumes the sweep.
        KeyboardInterrupt: the user or the system ended the sweep; the same call resumes it.
    """
    space = load_space(request.space)
    config = with_absolute_paths(sweep_config(request.config, space, request.words))
    candidates = ConfigSampler(space, config)
    candidates.check()
    folder, fingerprint = RunFolder(config), fingerprint_of(config, space)
    if request.dry_run:
        require_same(config, folder, fingerprint)
        wanted = count_wanted(candidates, read_history(folder.path / JOURNAL), request.add_trials, _gpus(config))
        with ExitStack() as data:
            inputs = _read_inputs(config, fingerprint, console, data) if space.warm_start else None
        found = find_prior_runs(candidates, config, inputs.fingerprint.stamp) if inputs else None
        with ray_session():
            _plan(candidates, config, found, console, wanted)
        return None
    with storage_faults_explained(folder.storage.url), folder.claimed(), ExitStack() as data:
        former = require_same(config, folder, fingerprint)
        history = read_history(folder.path / JOURNAL)
        wanted = count_wanted(candidates, history, request.add_trials, _gpus(config))
        inputs = _read_inputs(config, fingerprint, console, data)
        require_same(config, folder, inputs.fingerprint)
        found = None if history.trials else find_prior_runs(candidates, config, inputs.fingerprint.stamp)
        require_store(config, folder)
        with ray_session(), stoppable():
            plan = _plan(candidates, config, found, console, wanted)
            folder.require_space(plan.disk_bytes, plan.checkpoint_bytes)
            with Display(console, []) as display:
                if former and (unknown := describe_unknown(former)):
                    display.note(unknown)
                for shortage in shortages(config.scaling):
                    display.phase(shortage)
            begin_sweep(config, folder, inputs.fingerprint)
            return _search(request, candidates, config, plan, found, inputs, console)


@dataclass(frozen=True)
class Inputs:
    """The data of all trials.

    Attributes:
        datasets: data sets by split.
        fingerprint: fingerprint of the sweep with the digests of this data.
    """

    datasets: Mapping[str, DetectionDataset]
    fingerprint: SweepFingerprint


def _read_inputs(config: Config, fingerprint: SweepFingerprint, console: Console, data: ExitStack) -> Inputs:
    """Read the data that trials will need; cached copies are kept as long as `data` is open."""
    with Display(console, []) as display:
        data.enter_context(data_cache(config.data, display.phase))
        datasets = check_inputs(config, display)
        display.phase("computing the digests of the data")
        inputs = Inputs(datasets, fingerprint.with_data(datasets))
        display.phase("starting Ray")
        return inputs


def _plan(
    candidates: ConfigSampler, config: Config, found: PriorRuns | None, console: Console, wanted: int | None = None
) -> Plan:
    require_room(config.scaling)
    plan = make_plan(candidates, config, cluster_nodes(), wanted)
    print_plan(plan, candidates, config, console, found)
    return plan


def _search(
    request: Request,
    candidates: ConfigSampler,
    config: Config,
    plan: Plan,
    found: PriorRuns | None,
    inputs: Inputs,
    console: Console,
) -> SweepResult:
    space, folder = candidates.space, RunFolder(config).path
    trials_config = config.model_copy(update={"output_dir": str(folder)})
    stamp = inputs.fingerprint.stamp
    with closing(Journal(folder / JOURNAL)) as journal:
        conductor = TrialScheduler(candidates, journal, folder, plan.epochs, _gpus(config))
        with Recorder(config, trials_config, journal, stamp) as recorder:
            note_datasets(recorder.sweep, config, inputs.datasets, inputs.fingerprint.content)
            recorder.catch_up()
            journal.write(SessionBegan(trials=plan.trials))
            if found is not None:
                journal.write(WarmStarted(runs=found.runs))
            with LiveTable(space, plan, journal, console) as live:
                journal.listeners += [recorder, live]
                if request.retry_failed and conductor.is_spent():
                    live.say("note: failed trials do not run again: budget.hours or budget.gpu_hours are used up")
                else:
                    _retry_failed(journal, every=request.retry_failed)
                if not conductor.is_over():
                    run_trials(conductor, space, trials_config, live.say)
                if conductor.halted is not None:
                    raise StorageError(f"sweep {config.name} stopped: {conductor.halted.message}\n{RESUME_REMEDY}")
                recorder.finish()
                outcome = _conclude(request, config, space, journal, recorder)
        return replace(outcome, unsent=recorder.unsent)


def _retry_failed(journal: Journal, *, every: bool) -> None:
    """Run failed trials again: every one, or only those that failed because a storage was unavailable."""
    for trial in journal.trials:
        if trial.failure is not None and (every or trial.failure.kind is FailureKind.STORAGE):
            journal.write(Retried(trial=trial.number))


def _conclude(request: Request, config: Config, space: Space, history: History, recorder: Recorder) -> SweepResult:
    """Write the report and register the best model; an MLflow that does not accept them costs no other result."""
    objective, folder = space.objective[0], RunFolder(config).path
    if not (ranked := history.best_trials(objective)):
        hint = "mend what they name; the same command with --retry-failed runs them again"
        raise SweepError("\n  ".join([f"sweep {config.name}: no trial has a result", *history.failures()[-4:], hint]))
    best = ranked[0]
    result = best.best(objective)
    assert result is not None, "only trials with results are ranked"
    outcome = SweepResult(
        name=config.name,
        space=space,
        history=history,
        best=best,
        checkpoint=folder / result.checkpoint,
        model=recorder.register(best, folder / result.checkpoint, result.metrics),
        report=folder / "report.html",
        tracking_uri=recorder.sweep.shown_uri,
        run_id=recorder.sweep.run_id,
        reproduce=None if best.exploits else reproduce(request, space, config.name, best.params),
    )
    write_patiently(partial(write_report, outcome), outcome.report.name, logger.warning)
    recorder.conclude(outcome.report, result, describe_sweep(outcome))
    return outcome


def reproduce(request: Request, space: Space, name: str, params: Mapping[str, Any]) -> str:
    """Make the command that trains a trial again.

    Args:
        request: sweep that the trial belongs to.
        space: space of the sweep.
        name: name of the sweep.
        params: parameters of the trial, by dotted key.

    Returns:
        Command line for a shell.
    """
    own = [word for word in request.words if not word.startswith("name=")]
    words = [*overrides(space.fixed), *own, *overrides(params), f"name={name}-best"]
    return f"{command('mrqm')} train -c {as_submitted(request.config)} {shlex.join(words)}"


def _gpus(config: Config) -> int:
    return config.scaling.max_workers if config.scaling.use_gpu else 0
