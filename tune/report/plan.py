"""What a sweep is going to do and to need, before anything of it starts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from humanize import naturalsize
from rich.console import Console
from rich.table import Table

from mrqm.config import Config
from mrqm.engine.resume import checkpoint_bytes
from pipelines.compute.resources import describe_resources
from pipelines.storage.run_dir import RunError
from tune.execution.concurrency import count_trials
from tune.search.warm_start import PriorRuns
from tune.space.sampling import ConfigSampler
from tune.space.schema import Params, Space, overrides
from tune.space.values import lies_in
from tune.state.history import History

CHECKPOINTS_PER_TRIAL = 3
"""Of a running trial: its best, its latest, and the one that is being written."""


@dataclass(frozen=True)
class Plan:
    """A sweep in numbers.

    Attributes:
        trials: how many there will be.
        epochs: of a whole trial.
        at_once: trials that run together on the cluster.
        checkpoints: most of them on disk at any time.
        checkpoint_bytes: size of the largest.
    """

    trials: int
    epochs: int
    at_once: int
    checkpoints: int
    checkpoint_bytes: int

    @property
    def disk_bytes(self) -> int:
        """Most that all checkpoints take together."""
        return self.checkpoints * self.checkpoint_bytes


def make_plan(
    candidates: ConfigSampler, base: Config, nodes: Sequence[Mapping[str, float]], wanted: int | None = None
) -> Plan:
    """Plan a sweep of candidates on a cluster.

    Args:
        candidates: that were checked.
        base: the configuration of all trials.
        nodes: resources of each node of the cluster.
        wanted: trials in the end; those of the space by default.
    """
    space = candidates.space
    trials = count_all(candidates) if wanted is None else wanted
    at_once = min(trials, count_trials(nodes, base.scaling))
    unfinished = trials if space.scheduler.algorithm == "pbt" else at_once  # a population rests between generations
    return Plan(
        trials=trials,
        epochs=_most_epochs(space, base),
        at_once=at_once,
        checkpoints=unfinished * CHECKPOINTS_PER_TRIAL + space.keep_trials,
        checkpoint_bytes=_checkpoint_bytes(largest_config(candidates)),
    )


def count_all(candidates: ConfigSampler) -> int:
    """How many trials a sweep has."""
    space = candidates.space
    if not space.is_countable or space.repeats:
        assert space.budget.trials is not None, "a space has a budget or a grid"
        return space.budget.trials
    everything = len(candidates.points_to_evaluate) + sum(
        1 for _ in itertools.islice(candidates.grid(), space.budget.trials)
    )
    return min(everything, space.budget.trials or everything)


def _most_epochs(space: Space, base: Config) -> int:
    searched = space.parameters.get("train.epochs")
    return max(searched.extremes) if searched else base.train.epochs


def largest_config(candidates: ConfigSampler) -> Config:
    """The configuration with the largest checkpoint; every searched key of the model, one by one, makes it larger."""
    largest: Params = {}
    for key, parameter in candidates.space.parameters.items():
        tried = [largest | {key: value} for value in parameter.extremes] if lies_in(key, "model") else []
        allowed = [params for params in tried if candidates.violation(params) is None]
        largest = max(allowed, key=lambda params: _checkpoint_bytes(candidates.config(params)), default=largest)
    configs = [candidates.config(params) for params in (*candidates.points_to_evaluate, largest)]
    return max(configs, key=_checkpoint_bytes)


def _checkpoint_bytes(config: Config) -> int:
    return checkpoint_bytes(config, len(config.data.classes or ("object",)))


def print_plan(
    plan: Plan, candidates: ConfigSampler, base: Config, console: Console, found: PriorRuns | None = None
) -> None:
    """Say it in a few lines and a table of the keys, with what the search knows before it begins."""
    space = candidates.space
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
        f"{naturalsize(plan.disk_bytes)}; {space.keep_trials} will stay",
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
    for number, start in enumerate(candidates.points_to_evaluate):
        table.add_row(f"trial {number}", ", ".join(overrides(start)))
    console.print(table)


def _limits(space: Space) -> list[str]:
    limits = {"hours": space.budget.hours, "GPU hours": space.budget.gpu_hours}
    return [f"{value:g} {unit}" for unit, value in limits.items() if value is not None]


def count_wanted(candidates: ConfigSampler, history: History, more: int, gpus: int) -> int:
    """Count the trials that a sweep shall have in the end.

    Args:
        candidates: what trials may be.
        history: of the sweep.
        more: trials that are asked for beside those.
        gpus: that a trial takes.

    Returns:
        The number, trials that there were included.

    Raises:
        RunError: `more` cannot be added.
    """
    wanted = max(history.wanted_trials, count_all(candidates))
    if more and (violation := _objection_to_more(candidates, history, wanted, more, gpus)):
        raise RunError(f"--add-trials {more}: {violation}")
    return wanted + more


def _objection_to_more(candidates: ConfigSampler, history: History, wanted: int, more: int, gpus: int) -> str | None:
    space, ended = candidates.space, len(history.trials) - len(history.running())
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
        return "all of its trials failed; correct what they failed by first"
    if space.is_countable and not space.repeats:
        known = {candidates.identity(trial.params) for trial in history.trials}
        fresh = (
            one for one in (*candidates.points_to_evaluate, *candidates.grid()) if candidates.identity(one) not in known
        )
        if (left := len(list(itertools.islice(fresh, more)))) < more:
            return f"combinations of the searched keys that are left: {left}; add choices or widen a range"
    return None
