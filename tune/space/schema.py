"""The schema of a space: searched keys, algorithm, objective and budget; `tune/spaces/*.yaml` are examples.

objective: coco/AP
search: {algorithm: tpe}
scheduler: {algorithm: asha, grace_period: 2}
budget: {trials: 40}
fixed: {train.epochs: 12}
parameters:
  loss.mining.base_iou: {uniform: [0.45, 0.7]}
  loss.one_to_many.ratio: {int: [1, 12]}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from mrqm.config import Config, RenamedFrom, Section, load_config
from mrqm.config.dotted import lies_in
from mrqm.config.messages import as_yaml, describe_faults
from mrqm.config.values import read_numbers, to_word
from mrqm.config.yaml_file import YamlError, read_yaml
from mrqm.errors import UserError
from tune.space.expressions import Expression
from tune.space.parameters import Parameter
from tune.space.settings import Budget, Count, Objective, Paper, SchedulerSettings, SearchSettings, WarmStart

Params = dict[str, Any]
"""Values that a trial sets, by dotted key."""


class SpaceError(UserError):
    """A space that cannot be searched; the message names the parts to correct."""


class Space(Section):
    """The space of a sweep."""

    name: str = Field(default="space", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Part of the sweep's name; the file's name by default."""
    description: Annotated[str, RenamedFrom("about")] = ""
    """Purpose of the sweep, in one line."""
    objective: tuple[Objective, ...] = (Objective(),)
    """A metric, or several metrics, whose best compromises (Pareto front) are searched."""
    search: SearchSettings = SearchSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    budget: Budget = Budget()
    fixed: dict[str, Any] = Field(default={})
    """Settings of all trials; overrides on the command line take precedence."""
    parameters: dict[str, Parameter] = Field(default={})
    """Searched keys, by dotted name."""
    points_to_evaluate: Annotated[tuple[dict[str, Any], ...], RenamedFrom("start")] = ()
    """Trials to run first."""
    constraints: tuple[str, ...] = ()
    """Comparisons of keys that must be true for every trial."""
    warm_start: WarmStart | None = None
    """Earlier runs that the search learns from before its first trial."""
    keep_trials: Count = 1
    """Number of best trials whose checkpoints are kept."""
    paper: Paper | None = None

    @field_validator("objective", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        listed = given if isinstance(given, list | tuple) else [given]
        return [{"metric": one} if isinstance(one, str) else one for one in listed]

    @field_validator("fixed", "points_to_evaluate", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, values: Any) -> Any:
        return read_numbers(values)

    @field_validator("parameters")
    @classmethod
    def _no_key_is_part_of_another(cls, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
        for key in parameters:
            if section := next((other for other in parameters if other != key and lies_in(key, other)), None):
                raise ValueError(f"{key} is part of {section}, which is searched as a whole; leave out one of them")
        return parameters

    @field_validator("constraints")
    @classmethod
    def _are_comparisons(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            Expression(text)
        return texts

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        algorithm, scheduler = self.search.algorithm, self.scheduler.algorithm
        if not self.objective:
            raise ValueError("objective: at least one metric is needed")
        if len(self.objective) > 1 and scheduler != "none":
            raise ValueError(f"scheduler.algorithm={scheduler} compares one objective; with several set it to none")
        if algorithm == "nsga2" and len(self.objective) < 2:
            raise ValueError("search.algorithm=nsga2 is for several objectives; use tpe")
        if not self.parameters and not self.points_to_evaluate:
            raise ValueError("parameters: at least one is needed")
        order_keys(self.parameters)
        if algorithm != "grid" and self.budget.trials is None:
            raise ValueError(f"budget.trials is needed: search.algorithm={algorithm} has no end of its own")
        if algorithm == "grid" and (endless := [key for key, p in self.parameters.items() if p.grid is None]):
            raise ValueError(f"search.algorithm=grid needs choice, int or a step for {', '.join(endless)}")
        if self.warm_start and algorithm not in ("tpe", "nsga2"):
            raise ValueError(f"warm_start: search.algorithm={algorithm} does not learn from earlier runs; use tpe")
        if scheduler == "pbt" and algorithm != "random":
            raise ValueError("scheduler.algorithm=pbt begins with random trials; set search.algorithm to random")
        if scheduler == "pbt" and (conditional := [key for key, p in self.parameters.items() if p.when]):
            raise ValueError(
                f"scheduler.algorithm=pbt changes all parameters together; remove `when` of {conditional[0]}"
            )
        if scheduler == "pbt" and any(start.keys() != self.parameters.keys() for start in self.points_to_evaluate):
            raise ValueError("scheduler.algorithm=pbt needs every parameter in each trial of `points_to_evaluate`")
        return self

    @property
    def prunes(self) -> bool:
        """True if trials may end before their last epoch because others are better."""
        return self.scheduler.algorithm in ("asha", "hyperband", "median")

    @property
    def repeats(self) -> bool:
        """True if trials may be equal, as members of a population."""
        return self.search.algorithm == "nsga2" or self.scheduler.algorithm == "pbt"

    @property
    def is_countable(self) -> bool:
        """True if the number of combinations is finite."""
        return all(parameter.grid is not None for parameter in self.parameters.values())

    @property
    def order(self) -> tuple[str, ...]:
        """Searched keys, each after those that its `when` names."""
        return order_keys(self.parameters)

    def to_yaml(self) -> str:
        """Write the space as YAML, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def order_keys(parameters: Mapping[str, Parameter]) -> tuple[str, ...]:
    """Order searched keys by dependency: a key whose `when` names others comes after them.

    Raises:
        ValueError: conditions depend on each other in a circle.
    """
    waiting = {key: _conditions_of(key, parameters) for key in parameters}
    ordered: list[str] = []
    while waiting:
        ready = next((key for key, needed in waiting.items() if not needed & waiting.keys()), None)
        if ready is None:
            circle = "; ".join(f"{key}: when {parameters[key].when}" for key in waiting)
            raise ValueError(f"parameters: these wait for each other in a circle: {circle}; drop one `when`")
        ordered.append(ready)
        del waiting[ready]
    return tuple(ordered)


def _conditions_of(key: str, parameters: Mapping[str, Parameter]) -> set[str]:
    """Return the searched keys that a key's `when` names, as a whole or in part."""
    when = parameters[key].when
    named = Expression(when).keys if when else ()
    return {other for other in parameters if any(lies_in(name, other) for name in named)}


def load_space(path: str | Path) -> Space:
    """Read a space from a YAML file.

    Raises:
        SpaceError: the file is missing, not YAML, or not a space.
    """
    path = Path(path)
    if not path.is_file():
        shipped = ", ".join(sorted(p.name for p in (Path(__file__).parents[1] / "spaces").glob("*.yaml")))
        raise SpaceError(f"{path}: no such space; tune/spaces holds {shipped}")
    try:
        values = read_yaml(path)
    except YamlError as error:
        raise SpaceError(str(error)) from error
    if not isinstance(values, Mapping):
        raise SpaceError(f"{path}: expected keys such as `parameters:`, found {type(values).__name__}")
    return make_space({"name": path.stem, **values}, str(path))


def make_space(values: Mapping[str, Any], source: str = "space") -> Space:
    """Validate the values of a space.

    Args:
        values: values of a space, as in a file.
        source: name of their source, for messages.

    Returns:
        The validated space.

    Raises:
        SpaceError: the values are not a space.
    """
    try:
        return Space.model_validate(values)
    except ValidationError as error:
        lines = describe_faults(error, Space, values, as_yaml)
        raise SpaceError("\n".join([f"{source} is not usable:", *(f"  {line}" for line in lines)])) from error


def sweep_config(path: str | Path, space: Space, words: Sequence[str] = ()) -> Config:
    """Load the configuration that all trials of a sweep share, named after both files.

    Args:
        path: path of the configuration.
        space: space whose `fixed` settings take precedence over the file.
        words: overrides of the command line, which take precedence over both.

    Returns:
        Validated configuration.

    Raises:
        ConfigError: the configuration is not valid.
        SpaceError: a searched key is set.
    """
    given = {word.partition("=")[0]: word for word in words}
    keys = given.keys() | space.fixed.keys()
    if both := sorted(key for key in keys if any(lies_in(key, searched) for searched in space.parameters)):
        raise SpaceError(f"{', '.join(both)}: set and searched at once; leave out one of them")
    config = load_config(path, [*overrides(space.fixed), *words])
    return config if "name" in given else config.model_copy(update={"name": f"{config.name}-{space.name}"})


def overrides(params: Mapping[str, Any]) -> list[str]:
    """Write parameters as overrides for the command line: `loss.mining.base_iou=0.55`."""
    return [f"{key}={to_word(value)}" for key, value in params.items()]


def describe_params(params: Mapping[str, Any]) -> str:
    """Write parameters with short names: `base_iou=0.55`."""
    names = short_names(params)
    return " ".join(overrides({names[key]: value for key, value in params.items()}))


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Map each key to its last part, or to the whole key where several keys have the same last part."""
    last = {key: key.rpartition(".")[2] for key in keys}
    often = Counter(last.values())
    return {key: word if often[word] == 1 else key for key, word in last.items()}
