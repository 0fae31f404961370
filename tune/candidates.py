"""A space on a configuration: which trials there can be, and why others cannot."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from pydantic import ValidationError

from mrqm.config import Config, ConfigError, make_config
from mrqm.evaluation import CocoEvaluator
from pipelines.events import PROTOCOL
from pipelines.runs import flatten
from pipelines.storage import is_uri
from tune.cost import COSTS
from tune.expressions import Expression
from tune.parameters import Parameter
from tune.space import Params, Space, SpaceError, overrides

DRAWS = 1000
"""Random trials that are tried out before a sweep, and at most for each trial of it."""
NOT_SEARCHED = (
    "name", "output", "keep_checkpoints", "scaling.", "tracking.", "train.resume", "train.max_minutes",
    "train.checkpoint_minutes", "data.root", "data.val", "data.train", "data.format", "data.classes",
)  # fmt: skip
"""Keys, or beginnings of keys, that are no part of what is learned: all trials share them."""
CHANGES_NO_WEIGHTS = ("optim.", "loss.")
"""What may change while a trial goes on from another's weights; not weight decay, which comes with them."""
Identity: TypeAlias = frozenset[tuple[str, Any]]
BETWEEN = (3 - math.sqrt(5)) / 2
"""Where within a range a value is tried that is no round number."""


class Candidates:
    """All trials that a space allows.

    Args:
        space: what is searched.
        base: the configuration whose keys are set.
    """

    def __init__(self, space: Space, base: Config) -> None:
        self.space = space
        self._base = base
        self._values = base.model_dump()
        self._flat = flatten(base.model_dump(mode="json"))
        self._constraints = [Expression(text) for text in space.constraints]
        self._conditions = {key: Expression(p.when) for key, p in space.parameters.items() if p.when}

    def config(self, params: Mapping[str, Any], *more: str) -> Config:
        """The configuration of a trial, with more overrides.

        Raises:
            ConfigError: no configuration is like that.
        """
        return make_config(self._values, [*overrides(params), *more], source="trial")

    def is_active(self, key: str, params: Mapping[str, Any]) -> bool:
        """Whether a key is searched, given those before it."""
        condition = self._conditions.get(key)
        return condition is None or condition.holds(self._flat | dict(params))

    def objection(self, params: Mapping[str, Any]) -> str | None:
        """Why a trial cannot be: the constraint or the configuration's rule that it breaks."""
        values = self._flat | dict(params)
        for constraint in self._constraints:
            if not constraint.holds(values):
                return f"constraint {constraint.text!r}"
        try:
            self.config(params)
        except ConfigError as error:
            return str(error).partition("\n")[2].strip()
        return None

    def draw(self, generator: random.Random) -> Params:
        """A random trial that is allowed.

        Raises:
            SpaceError: none was found.
        """
        objections: Counter[str] = Counter()
        for _ in range(DRAWS):
            params: Params = {}
            for key, parameter in self.space.parameters.items():
                if self.is_active(key, params):
                    params[key] = parameter.draw(generator)
            if (objection := self.objection(params)) is None:
                return params
            objections[objection] += 1
        reasons = "\n".join(f"  {count} by {text}" for text, count in objections.most_common(3))
        raise SpaceError(f"no trial of {DRAWS:,} random ones is allowed; refused were\n{reasons}\nwiden a range")

    def grid(self) -> Iterator[Params]:
        """Every combination that is allowed and no trial of `start`, once; the last keys vary fastest."""
        keys = list(self.space.parameters)
        seen = {identity(params) for params in self.space.start}
        for values in itertools.product(*(p.grid or () for p in self.space.parameters.values())):
            params: Params = {}
            for key, value in zip(keys, values, strict=True):
                if self.is_active(key, params):
                    params[key] = value
            if params and identity(params) not in seen and self.objection(params) is None:
                seen.add(identity(params))
                yield params

    def check(self) -> None:
        """Try every parameter on the configuration.

        Raises:
            SpaceError: a key is unknown or cannot be searched, a range holds values that are not allowed, or no
                combination is.
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
        if is_uri(self._base.output):
            faults.append(f"output={self._base.output}: a sweep is kept in a folder; set output to one")
        faults += [
            f"{text!r}: {name} is no key of the configuration"
            for expression in (*self._constraints, *self._conditions.values())
            for text, name in ((expression.text, name) for name in expression.keys if name not in self._flat)
        ]
        if self.space.warm_start:
            unknown = [key for key in self.space.warm_start.differ if key not in self._flat]
            faults += [f"warm_start.differ: {key} is no key of the configuration" for key in unknown]
        if not faults:  # starting trials may break what broken parameters would break, too
            faults = [f"start: {fault}" for params in self.space.start if (fault := self._start_fault(params))]
        if faults:
            raise SpaceError(
                "\n".join([f"space {self.space.name} is not usable:", *(f"  {fault}" for fault in faults)])
            )
        if self.space.search.algorithm != "grid":
            self.draw(random.Random(self.space.search.seed))
        elif not self.space.start and next(self.grid(), None) is None:
            raise SpaceError(f"space {self.space.name}: not one combination of the grid is allowed")

    def _unreported(self, metric: str) -> str | None:
        data, evaluation = self._base.data, self._base.evaluation
        empty = CocoEvaluator(data.classes or (), evaluation.area_bins, evaluation.max_detections).compute()
        known = [*(f"{PROTOCOL}/{name}" for name in empty), *COSTS, "train/loss"]
        if metric in known or (data.classes is None and metric.startswith(f"{PROTOCOL}/AP/")):
            return None
        return f"objective {metric}: never reported; there are {', '.join(known)}"

    def _start_fault(self, params: Params) -> str | None:
        for key, value in params.items():
            if (parameter := self.space.parameters.get(key)) and not parameter.allows(value):
                return f"{key}={value} is not one of {parameter.describe()}"
        return self.objection(params)

    def _fault(self, key: str, parameter: Parameter) -> str | None:
        if key.startswith(NOT_SEARCHED):
            return f"parameters.{key}: all trials share it; set it in `fixed` or on the command line"
        if key == "train.epochs" and self.space.scheduler.algorithm != "none":
            return (
                "parameters.train.epochs: a scheduler compares trials of equal length; set scheduler.algorithm to none"
            )
        may_change = key.startswith(CHANGES_NO_WEIGHTS) and key != "optim.weight_decay"
        if self.space.scheduler.algorithm == "pbt" and not may_change:
            return (
                f"parameters.{key}: pbt goes on from other trials' weights and optimizers, and may change only optim.* "
                "(but optim.weight_decay) and loss.*"
            )
        values = list(parameter.extremes)
        if parameter.choice is None and not parameter.is_integer:
            values.append(parameter.low + BETWEEN * (parameter.high - parameter.low))
        for value in values:
            if message := self._refusal(key, value):
                return f"parameters.{key}: {message}"
        return None

    def _refusal(self, key: str, value: Any) -> str | None:
        """What the configuration says of a value by itself; rules that join several keys are left to `objection`."""
        try:
            self.config({key: value})
        except ConfigError as error:
            cause = error.__cause__
            if not isinstance(cause, ValidationError):
                return str(error)
            for fault in cause.errors():
                place = ".".join(str(part) for part in fault["loc"])
                if fault["type"] == "extra_forbidden" or f"{place}.".startswith(f"{key}."):
                    return str(error).partition("\n")[2].strip().removeprefix(f"{key}: ")
        return None


def identity(params: Params) -> Identity:
    """The same for equal trials, also where one comes from a journal, whose tuples are lists."""
    return frozenset((key, tuple(value) if isinstance(value, list) else value) for key, value in params.items())
