"""Suggestion of the next trial, by Optuna: a function of the space, the seed and the history of earlier trials.

No state is kept between two calls, so that none can be lost when a sweep is killed.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Mapping, Set
from functools import partial
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from mrqm.config.values import to_word
from tune.space.parameters import Parameter
from tune.space.sampling import DRAWS, ConfigSampler, Identity
from tune.space.schema import Params, Space, SpaceError
from tune.state.history import History, Trial
from tune.state.records import KnownRun

PRUNED = ("pruned", "stopped")
REPEATS = 50
"""Repeated suggestions after which a random trial is drawn instead."""


class Suggestion(NamedTuple):
    """A suggested trial.

    Attributes:
        params: parameters by dotted key.
        attributes: attributes that the sampler stores with the trial.
    """

    params: Params
    attributes: dict[str, Any]


class Searcher:
    """Suggests trials, none of them twice: the same configuration and seed would give the same result again.

    Members of the populations of `nsga2` and `pbt` may be equal.

    Args:
        sampler: sampler of the sweep's trials.
        history: history of the sweep, which grows.
    """

    def __init__(self, sampler: ConfigSampler, history: History) -> None:
        self._config_sampler, self._history = sampler, history
        self._space = sampler.space

    def suggest(self) -> Suggestion | None:
        """Suggest the next trial; None if there were all trials that the space allows.

        Raises:
            SpaceError: no suggestion is allowed.
        """
        number, start, known = len(self._history.trials), self._config_sampler.points_to_evaluate, self._known()
        first = self._unknown(start[number:] if self._space.repeats else start, known)
        if first is not None:
            return Suggestion(dict(first), {})
        match self._space.search.algorithm:
            case "grid":
                params = self._unknown(self._config_sampler.grid(), known)
                return None if params is None else Suggestion(params, {})
            case "random":
                return self._draw(self._generator(number), known)
        return self._ask(number, known)

    def _unknown(self, several: Iterable[Params], known: Set[Identity]) -> Params | None:
        """Return the first that is no trial yet."""
        return next((params for params in several if self._config_sampler.identity(params) not in known), None)

    def _draw(self, generator: random.Random, known: Set[Identity]) -> Suggestion | None:
        for _ in range(REPEATS):
            params = self._config_sampler.draw(generator)
            if self._config_sampler.identity(params) not in known:
                return Suggestion(params, {})
        if not self._space.is_countable:
            return Suggestion(params, {})
        others = [
            params for params in self._config_sampler.grid() if self._config_sampler.identity(params) not in known
        ]
        return Suggestion(generator.choice(others), {}) if others else None

    def _known(self) -> set[Identity]:
        """Return the trials that must not be suggested again."""
        return set() if self._space.repeats else {self._config_sampler.identity(t.params) for t in self._history.trials}

    def _generator(self, number: int) -> random.Random:
        return random.Random(f"{self._space.search.seed} {number}")

    def _ask(self, number: int, known: Set[Identity]) -> Suggestion | None:
        generator, repeats = self._generator(number), 0
        study = make_study(self._space, self._history, self._sampler(generator.getrandbits(32)))
        for _ in range(DRAWS):
            trial = study.ask()
            params = self._config_sampler.choose(partial(_suggest, trial, self._space))
            if self._config_sampler.violation(params) is None:
                if self._config_sampler.identity(params) not in known:
                    return Suggestion(params, dict(study.trials[-1].system_attrs))
                repeats += 1
                if repeats == REPEATS:
                    return self._draw(generator, known)
            study.tell(trial, state=TrialState.FAIL)
        raise SpaceError(
            f"no trial of {DRAWS:,} that {self._space.search.algorithm} suggested is allowed; widen a range"
        )

    def _sampler(self, seed: int) -> BaseSampler:
        first = self._space.search.startup_trials
        if self._space.search.algorithm == "nsga2":
            return NSGAIISampler(population_size=first, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(n_startup_trials=first, multivariate=True, group=True, constant_liar=True, seed=seed)


def make_study(space: Space, history: History, sampler: BaseSampler | None = None) -> optuna.Study:
    """Make an Optuna study of all known trials and runs.

    Args:
        space: space of the sweep.
        history: history of the sweep.
        sampler: Optuna sampler; Optuna's default if None.

    Returns:
        Study in memory.
    """
    directions = [StudyDirection.MAXIMIZE if o.mode == "max" else StudyDirection.MINIMIZE for o in space.objective]
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it logs every study that is made
    study = optuna.create_study(directions=directions, sampler=sampler)
    known = [*(_known_to_optuna(space, run) for run in history.known), *(to_optuna(space, t) for t in history.trials)]
    study.add_trials([trial for trial in known if trial is not None])
    infeasible = [(trial, trial.violation) for trial in history.trials if trial.violation]
    study.add_trials([_infeasible(study, space, *each) for each in infeasible])
    return study


def _known_to_optuna(space: Space, run: KnownRun) -> FrozenTrial:
    """Convert an earlier run to an Optuna trial."""
    state = TrialState.PRUNED if run.pruned and len(space.objective) == 1 else TrialState.COMPLETE
    return create_trial(
        state=state, values=run.values, intermediate_values=dict(run.curve), **encode(space, run.params)
    )


def to_optuna(space: Space, trial: Trial) -> FrozenTrial | None:
    """Convert a trial to an Optuna trial.

    Args:
        space: space of the sweep.
        trial: trial to convert.

    Returns:
        The Optuna trial; None for a trial that failed or has no result.
    """
    values = trial.values(space.objective)
    about = _identify(space, trial)
    curve = trial.curve(space.objective[0])
    if trial.state == "running":
        return create_trial(state=TrialState.RUNNING, **about)
    if values is None or trial.state == "failed":
        return None
    if trial.state in PRUNED and len(space.objective) == 1:
        return create_trial(state=TrialState.PRUNED, values=values, intermediate_values=curve, **about)
    return create_trial(values=values, intermediate_values=curve, **about)


def _infeasible(study: optuna.Study, space: Space, trial: Trial, violation: str) -> FrozenTrial:
    """Convert a trial with infeasible parameters: it violates a constraint, and has the worst of all known values."""
    known = [other.values for other in study.trials if other.values is not None] or [[0.0] * len(space.objective)]
    worst = [(min if o.mode == "max" else max)(values[i] for values in known) for i, o in enumerate(space.objective)]
    about = _identify(space, trial)
    return create_trial(values=worst, constraints={violation: 1.0}, **about)


def _identify(space: Space, trial: Trial) -> dict[str, Any]:
    """Convert a trial's parameters and attributes to arguments of `create_trial`, which adds constraints to them."""
    attributes = {"system_attrs": dict(trial.attributes), "user_attrs": {"trial": trial.number}}
    return encode(space, trial.params) | attributes


def encode(space: Space, params: Params) -> dict[str, Any]:
    """Convert searched parameters and their distributions to arguments of `create_trial`.

    Args:
        space: space of the sweep.
        params: parameters of a trial, by dotted key.

    Returns:
        Keyword arguments `params` and `distributions`.
    """
    searched = {key: space.parameters[key] for key in params if key in space.parameters}
    return {
        "params": {key: _encode(parameter, params[key]) for key, parameter in searched.items()},
        "distributions": {key: distribution(parameter) for key, parameter in searched.items()},
    }


def distribution(parameter: Parameter) -> BaseDistribution:
    """Convert a parameter to an Optuna distribution."""
    if parameter.choice is not None:
        return CategoricalDistribution([_encode(parameter, value) for value in parameter.choice])
    low, high = parameter.range
    if parameter.is_integer:
        return IntDistribution(round(low), round(high), log=parameter.is_log, step=round(parameter.step or 1))
    return FloatDistribution(low, high, log=parameter.is_log, step=parameter.step)


def _suggest(trial: optuna.Trial, space: Space, key: str) -> Any:
    parameter = space.parameters[key]
    if parameter.choice is not None:
        names = {_encode(parameter, choice): choice for choice in parameter.choice}
        return names[trial.suggest_categorical(key, list(names))]
    low, high = parameter.range
    if parameter.is_integer:
        return trial.suggest_int(key, round(low), round(high), step=round(parameter.step or 1), log=parameter.is_log)
    return parameter.quantize(trial.suggest_float(key, low, high, step=parameter.step, log=parameter.is_log))


def _encode(parameter: Parameter, value: Any) -> Any:
    """Return the parameter's own value, or its text where Optuna allows only scalars as choices."""
    own = parameter.own(value)
    return to_word(own) if isinstance(own, Mapping | list | tuple) else own
