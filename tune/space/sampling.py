"""Sampling of configurations from a space: the trials that it allows, and the reasons against others."""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeAlias

from pydantic import ValidationError

from mrqm.config import Config, ConfigError, Role, fill_defaults, has_role, keys_with, make_config
from mrqm.config.dotted import lies_in, section_of, walk
from mrqm.config.values import canonical, to_word
from mrqm.evaluation import build_protocol
from mrqm.structures.metric import TRAIN, VALIDATION, metric_key, with_protocol
from pipelines.storage.filesystem import is_uri
from tune.space.expressions import Expression, ExpressionError
from tune.space.init_choices import architecture_fault
from tune.space.model_cost import COSTS
from tune.space.parameters import Parameter
from tune.space.schema import Params, Space, SpaceError, overrides

DRAWS = 1000
"""Most random trials to draw for one that is allowed."""
Identity: TypeAlias = str
BETWEEN = (3 - math.sqrt(5)) / 2
"""Position within a range of a value to check that is not a round number: the golden section."""


class ConfigSampler:
    """Sampler of the trials that a space allows.

    Args:
        space: space of the sweep.
        base: configuration that all trials share.

    Attributes:
        space: space of the sweep.
    """

    def __init__(self, space: Space, base: Config) -> None:
        self.space = space
        self._base = base
        self._values = base.model_dump()
        self._plain_values = base.model_dump(mode="json")
        self._constraints = [Expression(text) for text in space.constraints]
        self._conditions = {key: Expression(p.when) for key, p in space.parameters.items() if p.when}

    def config(self, params: Mapping[str, Any], *more: str) -> Config:
        """Make the configuration of a trial, with further overrides.

        Args:
            params: parameters of the trial, by dotted key.
            *more: overrides, `key=value`.

        Returns:
            Validated configuration of the trial.

        Raises:
            ConfigError: the configuration is not valid.
        """
        return make_config(self._values, [*overrides(params), *more], source="trial")

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return every key and section of a trial's configuration by dotted key, without validation."""
        nested = copy.deepcopy(self._plain_values)
        for key, value in params.items():
            section, leaf = section_of(nested, key, replace=True)
            section[leaf] = value
        return dict(walk(fill_defaults(nested)))

    def identity(self, params: Params) -> Identity:
        """Return a text that is the same for all trials of the same configuration, with and without defaults."""
        try:
            return self.config(params).model_dump_json()
        except ConfigError:  # params from a journal of another version
            return canonical(params)

    def choose(self, pick: Callable[[str], Any]) -> Params:
        """Pick a value for every searched key whose `when` is true for the values picked before."""
        params: Params = {}
        for key in self.space.order:
            condition = self._conditions.get(key)
            if condition is None or condition.holds(self.values(params)):
                params[key] = pick(key)
        return {key: params[key] for key in self.space.parameters if key in params}

    @cached_property
    def points_to_evaluate(self) -> list[Params]:
        """The trials to run first, each once, with the parameters' own values."""
        parameters, unique = self.space.parameters, dict[Identity, Params]()
        for given in self.space.points_to_evaluate:
            params = {key: parameters[key].own(v) if key in parameters else v for key, v in given.items()}
            unique.setdefault(self.identity(params), params)
        return list(unique.values())

    def violation(self, params: Mapping[str, Any]) -> str | None:
        """Name the constraint or the configuration's rule that a trial breaks; None if it breaks none."""
        values = self.values(params) if self._constraints else {}
        for constraint in self._constraints:
            if not constraint.holds(values):
                return f"constraint {constraint.text!r}"
        try:
            self.config(params)
        except ConfigError as error:
            return str(error).partition("\n")[2].strip()
        return None

    def draw(self, generator: random.Random) -> Params:
        """Draw a random trial that is allowed.

        Raises:
            SpaceError: no such trial was found.
        """
        violations: Counter[str] = Counter()
        for _ in range(DRAWS):
            params = self.choose(lambda key: self.space.parameters[key].draw(generator))
            if (violation := self.violation(params)) is None:
                return params
            violations[violation] += 1
        reasons = "\n".join(f"  {count} by {text}" for text, count in violations.most_common(3))
        raise SpaceError(f"no trial of {DRAWS:,} random ones is allowed; refused were\n{reasons}\nwiden a range")

    def grid(self) -> Iterator[Params]:
        """Yield each allowed combination once, without those of `points_to_evaluate`; the last keys vary fastest."""
        keys = list(self.space.parameters)
        seen = {self.identity(params) for params in self.points_to_evaluate}
        for values in itertools.product(*(p.grid or () for p in self.space.parameters.values())):
            params = self.choose(dict(zip(keys, values, strict=True)).__getitem__)
            if params and self.identity(params) not in seen and self.violation(params) is None:
                seen.add(self.identity(params))
                yield params

    def check(self) -> None:
        """Check every parameter on the configuration.

        Raises:
            SpaceError: a key is unknown or cannot be searched, a range has values that are not allowed, or no
                combination is allowed.
        """
        faults = [fault for key, p in self.space.parameters.items() if (fault := self._fault(key, p))]
        faults += [fault for o in self.space.objective if (fault := self._unreported(o.metric))]
        if self._base.train.max_minutes is not None:
            faults.append(
                f"train.max_minutes={self._base.train.max_minutes:g}: trials are compared by epochs; set it to null "
                "and train.epochs to what fits, in `fixed` or on the command line"
            )
        if self._base.scaling.min_workers < self._base.scaling.max_workers:
            faults.append(
                f"scaling.num_workers={self._base.scaling.num_workers}: trials have a fixed number of workers"
            )
        if is_uri(self._base.output_dir):
            faults.append(f"output_dir={self._base.output_dir}: a sweep is kept in a folder; set output to one")
        known = self._known_keys()
        for expression in (*self._constraints, *self._conditions.values()):
            unknown = [name for name in expression.keys if name not in known]
            faults += [f"{expression.text!r}: {name} is no key of the configuration" for name in unknown]
            if not unknown and (fault := self._computing_fault(expression)):
                faults.append(fault)
        if self.space.warm_start:
            unknown = [key for key in self.space.warm_start.differ if key not in known]
            faults += [f"warm_start.differ: {key} is no key of the configuration" for key in unknown]
        if not faults:  # else broken parameters would be reported twice
            faults = [
                f"points_to_evaluate: {fault}"
                for params in self.space.points_to_evaluate
                if (fault := self._start_fault(params))
            ]
        if faults:
            raise SpaceError(
                "\n".join([f"space {self.space.name} is not usable:", *(f"  {fault}" for fault in faults)])
            )
        if self.space.search.algorithm != "grid":
            self.draw(random.Random(self.space.search.seed))
        elif not self.space.points_to_evaluate and next(self.grid(), None) is None:
            raise SpaceError(f"space {self.space.name}: no combination of the grid is allowed")

    def _known_keys(self) -> set[str]:
        """Return the keys that a configuration has with some value of the searched ones."""
        tried = [{key: value} for key, parameter in self.space.parameters.items() for value in parameter.extremes]
        return {key for params in ({}, *tried) for key in self.values(params)}

    def _computing_fault(self, expression: Expression) -> str | None:
        """Return the error for values of the searched keys with which a comparison cannot be computed."""
        named = [key for key in self.space.parameters if any(lies_in(name, key) for name in expression.keys)]
        searched = {key: self.space.parameters[key].extremes for key in named}
        for values in itertools.islice(itertools.product(*searched.values()), DRAWS):
            try:
                expression.holds(self.values(dict(zip(searched, values, strict=True))))
            except ExpressionError as error:
                return str(error)
        return None

    def _unreported(self, metric: str) -> str | None:
        data, evaluation = self._base.data, self._base.evaluation
        empty = build_protocol(VALIDATION, evaluation).score([], [], data.classes or ())
        known = [*with_protocol(VALIDATION, empty), *COSTS, metric_key(TRAIN, "loss")]
        if metric in known or (data.classes is None and metric.startswith(metric_key(VALIDATION, "AP/"))):
            return None
        return f"objective {metric}: never reported; there are {', '.join(known)}"

    def _start_fault(self, params: Params) -> str | None:
        for key, value in params.items():
            if section := next((one for one in self.space.parameters if one != key and lies_in(key, one)), None):
                return f"{key} is part of {section}, which is searched as a whole; give all of it"
            try:
                self.space.parameters[key].own(value) if key in self.space.parameters else value
            except LookupError:
                return f"{key}={to_word(value)} is not one of {self.space.parameters[key].describe()}"
        return self.violation(params)

    def _fault(self, key: str, parameter: Parameter) -> str | None:
        if any(lies_in(shared, key) for shared in keys_with(Role.SHARED)) or has_role(key, Role.SHARED):
            return f"parameters.{key}: all trials share it; set it in `fixed` or on the command line"
        if key == "train.epochs" and self.space.scheduler.algorithm != "none":
            return (
                "parameters.train.epochs: a scheduler compares trials of equal length; set scheduler.algorithm to none"
            )
        if self.space.scheduler.algorithm == "pbt" and not has_role(key, Role.SCHEDULABLE):
            return (
                f"parameters.{key}: pbt continues from other trials' weights and optimizers, and may change only "
                "optim.* (but optim.weight_decay) and loss.*"
            )
        values = list(parameter.extremes)
        if parameter.choice is None and not parameter.is_integer:
            values.append(parameter.low + BETWEEN * (parameter.high - parameter.low))
        for value in values:
            if message := self._refusal(key, value):
                return f"parameters.{key}: {message}"
        return architecture_fault(key, self.space, self._base)

    def _refusal(self, key: str, value: Any) -> str | None:
        """Return the configuration's error about a value by itself; `violation` checks the rules for several keys."""
        try:
            self.config({key: value})
        except ConfigError as error:
            cause = error.__cause__
            if not isinstance(cause, ValidationError):
                return str(error)
            for fault in cause.errors():
                place = ".".join(str(part) for part in fault["loc"])
                if fault["type"] == "extra_forbidden" or lies_in(place, key):
                    return str(error).partition("\n")[2].strip().removeprefix(f"{key}: ")
        return None
