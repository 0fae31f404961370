"""Warm start of a search from earlier runs in MLflow, which count as trials of the sweep.

Only comparable runs are used: those on the same data and by the same protocol that differ from this sweep's trials in
searched keys alone, with values within the space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from mrqm.config import Config, Role, fill_defaults, has_role
from mrqm.config.dotted import flatten, lies_in, section_of
from mrqm.config.values import canonical, to_plain
from mrqm.redaction import redact
from pipelines.storage.fingerprint import INIT, WEIGHTS
from pipelines.tracking.client import Client
from pipelines.tracking.create_run import to_params
from pipelines.tracking.mlflow_names import MLFLOW_PARENT_RUN_ID, MLFLOW_SOURCE_NAME
from pipelines.tracking.store import first_contact, resolve_experiment, resolve_uri, sqlite_path
from pipelines.tracking.tracker import metric_name
from tune.space.sampling import ConfigSampler
from tune.space.schema import Params, SpaceError
from tune.space.settings import WarmStart
from tune.state.records import KnownRun

REASONS = 5
"""Most reasons to list for runs that were left out."""


@dataclass(frozen=True)
class PriorRuns:
    """Earlier runs that were found.

    Attributes:
        source: description of the experiment or sweeps that were searched.
        runs: comparable runs, oldest first.
        left_out: number of other runs, by reason.
    """

    source: str
    runs: tuple[KnownRun, ...]
    left_out: Mapping[str, int]

    def describe(self) -> list[str]:
        """Describe the runs in a few lines."""
        return [f"{len(self.runs)} runs of {self.source}", *_most_common(self.left_out)]


def find_prior_runs(sampler: ConfigSampler, config: Config, stamp: Mapping[str, str]) -> PriorRuns | None:
    """Find the runs that a space's `warm_start` names.

    Args:
        sampler: sampler of the sweep's trials.
        config: configuration that all trials share.
        stamp: digest of the data and version of the protocol, by name of the tag.

    Returns:
        The runs; None if the space has no `warm_start`.

    Raises:
        SpaceError: there are no such runs, or none that can be compared; the message says why.
        TrackingError: the store cannot be used.
    """
    wanted = sampler.space.warm_start
    if wanted is None:
        return None
    uri = resolve_uri(config.tracking)
    experiment = wanted.experiment or resolve_experiment(config.tracking)
    source = f"sweep {' and '.join(wanted.sweeps)}" if wanted.sweeps else f"experiment {experiment}"
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        raise SpaceError(
            f"warm_start: there is no {database}, so no earlier runs; set tracking.uri to the store of some"
        )
    with first_contact(uri):
        client = Client(uri)
        runs = _finished_runs(client, experiment, wanted, redact(uri))
        comparison = _Comparison(sampler, config, stamp, wanted)
        compared = [(run, comparison.read(run)) for run in runs]
        taken = [_known(client, run, params, sampler) for run, params in compared if not isinstance(params, str)]
    left_out = Counter(reason for _, reason in compared if isinstance(reason, str))
    if missing := sum(one is None for one in taken):
        names = ", ".join(objective.metric for objective in sampler.space.objective)
        left_out[f"{names} was not measured"] += missing
    if known := tuple(one for one in taken if one is not None):
        return PriorRuns(source, known, left_out)
    lines = [f"  {line}" for line in _most_common(left_out)] or ["  it has no finished runs"]
    raise SpaceError(
        "\n".join([f"warm_start: nothing in {source} at {redact(uri)} can be learned from:", *lines])
        + "\nname other sweeps, list keys that may differ in warm_start.differ, or leave warm_start out"
    )


def _most_common(reasons: Mapping[str, int]) -> list[str]:
    ranked = Counter(reasons).most_common()
    lines = [f"{count} left out: {reason}" for reason, count in ranked[:REASONS]]
    if rest := sum(count for _, count in ranked[REASONS:]):
        lines.append(f"{rest} left out for other reasons")
    return lines


def _finished_runs(client: Client, experiment: str, wanted: WarmStart, uri: str) -> list[Run]:
    """List the experiment's trainings that finished or were pruned, oldest first."""
    found = client.get_experiment_by_name(experiment)
    if found is None or found.lifecycle_stage != "active":
        names = ", ".join(sorted(one.name for one in client.experiments()))
        raise SpaceError(f"warm_start.experiment: there is no {experiment!r} at {uri}; there are {names}")
    runs = list(_all_runs(client, found.experiment_id))
    sweeps = {name for run in runs if (name := run.data.tags.get("sweep.name"))}
    if unknown := sorted(set(wanted.sweeps) - sweeps):
        raise SpaceError(
            f"warm_start.sweeps: experiment {experiment!r} at {uri} has no sweep {', '.join(unknown)}; "
            f"it has {', '.join(sorted(sweeps)) or 'none'}"
        )
    return [run for run in runs if not wanted.sweeps or run.data.tags.get("sweep.name") in wanted.sweeps]


def _all_runs(client: Client, experiment_id: str) -> Iterator[Run]:
    """Yield the finished runs of trainings and trials; parent runs of sweeps have no parameters."""
    for run in client.runs([experiment_id], "attributes.status = 'FINISHED'", ["attributes.start_time ASC"]):
        source = run.data.tags.get(MLFLOW_SOURCE_NAME)
        if source != "mrqm evaluate" and (source != "mrqm tune" or MLFLOW_PARENT_RUN_ID in run.data.tags):
            yield run


class _Comparison:
    """Comparison of earlier runs with the trials of a sweep."""

    def __init__(self, sampler: ConfigSampler, config: Config, stamp: Mapping[str, str], wanted: WarmStart) -> None:
        self._sampler, self._stamp = sampler, stamp
        ignored = (*sampler.space.parameters, *wanted.differ)
        self._same = {
            key: value
            for key, value in to_params(config).items()
            if not (
                has_role(key, Role.RUNTIME) or has_role(key, Role.DATA) or any(lies_in(key, one) for one in ignored)
            )
        }

    def read(self, run: Run) -> Params | str:
        """Return the searched parameters of a run, or the reason for which it cannot be compared."""
        tags, values = run.data.tags, _with_defaults(run.data.params)
        for key, value in self._stamp.items():
            if tags.get(key) != value:
                return f"another {key}: was {_short(tags.get(key))}, is now {_short(value)}"
        if "sweep.exploited" in tags:
            return "parameters changed while it trained"
        for key, value in self._same.items():
            there = values.get(key, "absent")
            if key in (WEIGHTS, INIT):  # files, whose folders may have moved
                there, value = Path(there).name, Path(value).name
            if there != value:
                return f"{key} was {there}, is now {value}"
        return self._params(values)

    def _params(self, values: Mapping[str, str]) -> Params | str:
        try:
            params = self._sampler.choose(partial(self._pick, values))
        except LookupError as error:
            return str(error)
        violation = self._sampler.violation(params)
        return params if violation is None else f"not allowed by {violation}"

    def _pick(self, values: Mapping[str, str], key: str) -> Any:
        """Read a parameter's value from MLflow's texts of a whole configuration.

        Raises:
            LookupError: it is not a value of this parameter.
        """
        parameter = self._sampler.space.parameters[key]
        with suppress(LookupError):
            if parameter.choice is None:
                return parameter.own(values[key])
            return next(choice for choice in parameter.choice if self._is_chosen(key, choice, values))
        raise LookupError(f"{key} is not one of {parameter.describe()}")

    def _is_chosen(self, key: str, choice: Any, values: Mapping[str, str]) -> bool:
        """Tell if MLflow's texts are those of a choice, key by key if it is a section."""
        wanted = self._sampler.values({key: choice}).items()
        leaves = {k: v for k, v in wanted if lies_in(k, key) and not isinstance(v, Mapping)}
        return all(k in values and _is_text_of(values[k], value) for k, value in leaves.items())


def _with_defaults(params: Mapping[str, str]) -> dict[str, str]:
    """Add the defaults of keys that a run's version did not have to its MLflow parameters."""
    nested: dict[str, Any] = {}
    for key, text in params.items():
        section, leaf = section_of(nested, key, replace=True)
        if not isinstance(section.get(leaf), dict):  # parameters of strangers may be called like a section
            section[leaf] = text
    return {key: str(value) for key, value in flatten(fill_defaults(nested)).items()}


def _short(value: str | None) -> str:
    return "none" if value is None else value[:12]


def _is_text_of(text: str, value: Any) -> bool:
    """Tell if MLflow's text of a parameter means a value, in any notation of numbers."""
    return text == str(to_plain(value)) or canonical(text) == canonical(value)


def _known(client: Client, run: Run, params: Params, sampler: ConfigSampler) -> KnownRun | None:
    """Read the results of a run; None if it did not measure the objectives."""
    objectives = sampler.space.objective
    epochs = _history(client, run, "epoch")
    curves = [_history(client, run, metric_name(objective.metric)) for objective in objectives]
    steps = [step for step in curves[0] if step in epochs and all(step in curve for curve in curves)]
    if not steps:
        return None
    best = max(reversed(steps), key=lambda step: objectives[0].sign * curves[0][step])
    return KnownRun(
        run_id=run.info.run_id,
        params=params,
        values=tuple(curve[best] for curve in curves),
        curve={round(epochs[step]): curves[0][step] for step in steps},
        pruned=run.data.tags.get("sweep.state") in ("pruned", "stopped"),
    )


def _history(client: Client, run: Run, metric: str) -> dict[int, float]:
    """Read a metric by step."""
    if metric not in run.data.metrics:
        return {}
    return {point.step: point.value for point in sorted(client.get_metric_history(run.info.run_id, metric), key=_step)}


def _step(point: Any) -> int:
    return int(point.step)
