"""The plan of a sweep, made before it starts: its trials, their concurrency and their disk space."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from humanize import naturalsize
from rich.console import Console
from rich.table import Table

from mrqm.config import Config
from mrqm.config.dotted import lies_in
from mrqm.engine.resume import checkpoint_bytes
from pipelines.compute.resources import describe_resources
from pipelines.storage.run_dir import RunError
from tune.execution.concurrency import count_trials
from tune.search.warm_start import PriorRuns
from tune.space.sampling import ConfigSampler
from tune.space.schema import Params, Space, overrides
from tune.state.history import History

CHECKPOINTS_PER_TRIAL = 3
"""Checkpoints of a running trial: its best, its latest, and the one that is being written."""


@dataclass(frozen=True)
class Plan:
    """A sweep in numbers.

    Attributes:
        trials: number of trials in the end.
        epochs: epochs of a whole trial.
        at_once: number of trials that run at the same time.
        checkpoints: largest number of checkpoints on disk at any time.
        checkpoint_bytes: size of the largest checkpoint in bytes.
    """

    trials: int
    epochs: int
    at_once: int
    checkpoints: int
    checkpoint_bytes: int

    @property
    def disk_bytes(self) -> int:
        """Bytes that all checkpoints take at most."""
        return self.checkpoints * self.checkpoint_bytes


def make_plan(
    sampler: ConfigSampler, base: Config, nodes: Sequence[Mapping[str, float]], wanted: int | None = None
) -> Plan:
    """Plan a sweep on a cluster.

    Args:
        sampler: sampler of the sweep's trials, which has been checked.
        base: configuration that all trials share.
        nodes: resources of each node of the cluster, by Ray's names.
        wanted: number of trials in the end; that of the space by default.

    Returns:
        The sweep in numbers.
    """
    space = sampler.space
    trials = count_all(sampler) if wanted is None else wanted
    at_once = min(trials, count_trials(nodes, base.scaling))
    unfinished = trials if space.scheduler.algorithm == "pbt" else at_once  # a population rests between generations
    return Plan(
        trials=trials,
        epochs=_most_epochs(space, base),
        at_once=at_once,
        checkpoints=unfinished * CHECKPOINTS_PER_TRIAL + space.keep_trials,
        checkpoint_bytes=_checkpoint_bytes(largest_config(sampler)),
    )


def count_all(sampler: ConfigSampler) -> int:
    """Count the trials of a space."""
    space = sampler.space
    if not space.is_countable or space.repeats:
        assert space.budget.trials is not None, "a space has a budget or a grid"
        return space.budget.trials
    everything = len(sampler.points_to_evaluate) + sum(1 for _ in itertools.islice(sampler.grid(), space.budget.trials))
    return min(everything, space.budget.trials or everything)


def _most_epochs(space: Space, base: Config) -> int:
    searched = space.parameters.get("train.epochs")
    return max(searched.extremes) if searched else base.train.epochs


def largest_config(sampler: ConfigSampler) -> Config:
    """Find the configuration with the largest checkpoint, by enlarging one searched key of the model after another."""
    largest: Params = {}
    for key, parameter in sampler.space.parameters.items():
        tried = [largest | {key: value} for value in parameter.extremes] if lies_in(key, "model") else []
        allowed = [params for params in tried if sampler.violation(params) is None]
        largest = max(allowed, key=lambda params: _checkpoint_bytes(sampler.config(params)), default=largest)
    configs = [sampler.config(params) for params in (*sampler.points_to_evaluate, largest)]
    return max(configs, key=_checkpoint_bytes)


def _checkpoint_bytes(config: Config) -> int:
    return checkpoint_bytes(config, len(config.data.classes or ("object",)))


def print_plan(
    plan: Plan, sampler: ConfigSampler, base: Config, console: Console, found: PriorRuns | None = None
) -> None:
    """Print a plan in a few lines, with the earlier runs that the search learns from, and a table of the keys.

    Args:
        plan: plan to print.
        sampler: sampler of the sweep's trials.
        base: configuration that all trials share.
        console: console to print to.
        found: earlier runs that the search learns from; None without a warm start.
    """
    space = sampler.space
    sought = " and ".join(f"{objective.mode} {objective.metric}" for objective in space.objective)
    ended = "" if space.scheduler.algorithm == "none" else f", {space.scheduler.algorithm}"
    what = f": {space.description}" if space.description else ""
    lines = {
        "sweep": f"{base.name}{what}",
        "search": f"{space.search.algorithm}{ended}, for {sought}",
        "trials": f"{plan.trials} of {plan.epochs} epochs, {plan.at_once} at once, "
        f"each on {describe_resources(base.scaling)}",
        "budget": ", ".join(_limits(space)) or "none but the trials",
        "disk": f"at most {plan.checkpoints} checkpoints × {naturalsize(plan.checkpoint_bytes)} = "
        f"{naturalsize(plan.disk_bytes)}; {space.keep_trials} will be kept",
    }
    if found is not None:
        lines["knows"] = f"\n{'':<10}".join(found.describe())
    for name, text in lines.items():
        console.print(f"{name:<10}{text}", soft_wrap=True, highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("searched", "values"):
        table.add_column(column, overflow="fold")
    for key, parameter in space.parameters.items():
        table.add_row(key, parameter.describe())
    for number, start in enumerate(sampler.points_to_evaluate):
        table.add_row(f"trial {number}", ", ".join(overrides(start)))
    console.print(table)


def _limits(space: Space) -> list[str]:
    limits = {"hours": space.budget.hours, "GPU hours": space.budget.gpu_hours}
    return [f"{value:g} {unit}" for unit, value in limits.items() if value is not None]


def count_wanted(sampler: ConfigSampler, history: History, more: int, gpus: int) -> int:
    """Count the trials that a sweep shall have in the end.

    Args:
        sampler: sampler of the sweep's trials.
        history: history of the sweep.
        more: number of trials to add.
        gpus: GPUs of a trial.

    Returns:
        The number of trials, earlier ones included.

    Raises:
        RunError: `more` cannot be added.
    """
    wanted = max(history.wanted_trials, count_all(sampler))
    if more and (violation := _reason_against_more(sampler, history, wanted, more, gpus)):
        raise RunError(f"--add-trials {more}: {violation}")
    return wanted + more


def _reason_against_more(sampler: ConfigSampler, history: History, wanted: int, more: int, gpus: int) -> str | None:
    space, ended = sampler.space, len(history.trials) - len(history.running())
    if not history.trials:
        return "the sweep has not begun; set budget.trials in the space instead"
    if history.is_spent(space.budget, gpus):
        return "the hours of its budget are used up; raise budget.hours or budget.gpu_hours in the space"
    if ended < wanted:
        return (
            f"{ended} of its {wanted} trials have ended, and only a sweep that is finished can be given more; the same "
            f"command without it continues the sweep, as does budget.trials: {wanted + more} in the space"
        )
    if space.scheduler.algorithm == "pbt":
        return "the trials of a population train together; begin another sweep with a larger budget.trials"
    if all(trial.state == "failed" for trial in history.trials):
        return "all of its trials failed; correct the causes first"
    if space.is_countable and not space.repeats:
        known = {sampler.identity(trial.params) for trial in history.trials}
        fresh = (one for one in (*sampler.points_to_evaluate, *sampler.grid()) if sampler.identity(one) not in known)
        if (left := len(list(itertools.islice(fresh, more)))) < more:
            return f"combinations of the searched keys that are left: {left}; add choices or widen a range"
    return None
