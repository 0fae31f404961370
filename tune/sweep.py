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
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial

from rich.console import Console

from mrqm.errors import UserError
from pipelines.compute.resources import cluster_nodes, require_room, shortages
from pipelines.compute.session import ray_session
from pipelines.console.training_display import Display
from pipelines.failures.storage_wait import storage_faults_explained, write_patiently
from pipelines.failures.taxonomy import FailureKind
from pipelines.process.signals import stoppable
from pipelines.storage.filesystem import StorageError
from pipelines.storage.fingerprint import describe_unknown, require_same
from pipelines.tracking.dataset_inputs import note_datasets
from pipelines.tracking.tracker import require_store
from tune.context import Inputs, Request, SweepContext, read_inputs
from tune.execution.ray_tune import run_trials
from tune.report.html import describe_sweep, write_report
from tune.report.live_table import LiveTable
from tune.report.mlflow_recorder import Recorder
from tune.report.plan import Plan, count_wanted, make_plan, print_plan
from tune.report.reproduction import reproduce
from tune.report.result import SweepResult
from tune.search.trial_scheduler import TrialScheduler
from tune.search.warm_start import PriorRuns, find_prior_runs
from tune.state.fingerprint import begin_sweep
from tune.state.history import History
from tune.state.journal import JOURNAL, Journal, read_history
from tune.state.records import Retried, SessionBegan, WarmStarted

RESUME_REMEDY = "free space or repair the storage, then repeat the command to resume from the last checkpoints"

logger = logging.getLogger(__name__)


class SweepError(UserError):
    """A sweep from which nothing can be learned."""


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
    context = SweepContext.of(request)
    if request.dry_run:
        _plan_only(context, console)
        return None
    config, folder = context.config, context.folder
    with storage_faults_explained(folder.storage.url), folder.claimed(), ExitStack() as data:
        context = context.with_ancestors(data)
        former = require_same(config, folder, context.fingerprint)
        history = read_history(folder.path / JOURNAL)
        trials = count_wanted(context.sampler, history, request.add_trials, context.gpus)
        inputs = read_inputs(context, console, data)
        require_same(config, folder, inputs.fingerprint)
        found = None if history.trials else find_prior_runs(context.sampler, config, inputs.fingerprint.stamp)
        require_store(config, folder)
        with ray_session(), stoppable():
            plan = _plan(context, found, console, trials)
            folder.require_space(plan.disk_bytes, plan.checkpoint_bytes)
            with Display(console, []) as display:
                if former and (unknown := describe_unknown(former)):
                    display.note(unknown)
                for shortage in shortages(config.scaling):
                    display.phase(shortage)
            begin_sweep(config, folder, inputs.fingerprint)
            context.keep_ancestors()
            return _search(context, plan, found, inputs, console)


def _plan_only(context: SweepContext, console: Console) -> None:
    """Print the plan of a sweep and write nothing."""
    config, sampler = context.config, context.sampler
    require_same(config, context.folder, context.fingerprint)
    history = read_history(context.folder.path / JOURNAL)
    trials = count_wanted(sampler, history, context.request.add_trials, context.gpus)
    found = None
    if context.space.warm_start:
        with ExitStack() as data:
            stamp = read_inputs(context, console, data).fingerprint.stamp
        found = find_prior_runs(sampler, config, stamp)
    with ray_session():
        _plan(context, found, console, trials)


def _plan(context: SweepContext, found: PriorRuns | None, console: Console, trials: int | None) -> Plan:
    require_room(context.config.scaling)
    plan = make_plan(context.sampler, context.config, cluster_nodes(), trials)
    print_plan(plan, context.sampler, context.config, console, found)
    return plan


def _search(
    context: SweepContext, plan: Plan, found: PriorRuns | None, inputs: Inputs, console: Console
) -> SweepResult:
    config, space, folder = context.config, context.space, context.folder.path
    trials_config = config.model_copy(update={"output_dir": str(folder)})
    with closing(Journal(folder / JOURNAL)) as journal:
        scheduler = TrialScheduler(context.sampler, journal, folder, plan.epochs, context.gpus)
        with Recorder(config, trials_config, journal, inputs.fingerprint.stamp) as recorder:
            note_datasets(recorder.sweep, config, inputs.datasets, inputs.fingerprint.content)
            recorder.catch_up()
            journal.write(SessionBegan(trials=plan.trials))
            if found is not None:
                journal.write(WarmStarted(runs=found.runs))
            with LiveTable(space, plan, journal, console) as live:
                journal.listeners += [recorder, live]
                every = context.request.retry_failed
                if every and scheduler.is_spent():
                    live.say("note: failed trials do not run again: budget.hours or budget.gpu_hours are used up")
                else:
                    _retry_failed(journal, every=every)
                if not scheduler.is_over():
                    run_trials(scheduler, space, trials_config, live.say)
                if scheduler.halted is not None:
                    raise StorageError(f"sweep {config.name} stopped: {scheduler.halted.message}\n{RESUME_REMEDY}")
                recorder.finish()
                result = _conclude(context, journal, recorder)
        return replace(result, unsent=recorder.unsent)


def _retry_failed(journal: Journal, *, every: bool) -> None:
    """Run failed trials again: every one, or only those that failed because a storage was unavailable."""
    for trial in journal.trials:
        if trial.failure is not None and (every or trial.failure.kind is FailureKind.STORAGE):
            journal.write(Retried(trial=trial.number))


def _conclude(context: SweepContext, history: History, recorder: Recorder) -> SweepResult:
    """Write the report and register the best model; an MLflow that does not accept them costs no other result."""
    config, folder, objective = context.config, context.folder.path, context.space.objective[0]
    if not (ranked := history.best_trials(objective)):
        hint = "correct what they name; the same command with --retry-failed runs them again"
        raise SweepError("\n  ".join([f"sweep {config.name}: no trial has a result", *history.failures()[-4:], hint]))
    best = ranked[0]
    epoch = best.best(objective)
    assert epoch is not None, "only trials with epochs are ranked"
    result = SweepResult(
        name=config.name,
        space=context.space,
        history=history,
        best=best,
        checkpoint=folder / epoch.checkpoint,
        model=recorder.register(best, folder / epoch.checkpoint, epoch.metrics),
        report=folder / "report.html",
        tracking_uri=recorder.sweep.shown_uri,
        run_id=recorder.sweep.run_id,
        reproduce=None if best.exploits else reproduce(context, best.params),
    )
    write_patiently(partial(write_report, result), result.report.name, logger.warning)
    recorder.conclude(result.report, epoch, describe_sweep(result))
    return result
