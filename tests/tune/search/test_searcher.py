"""The search with trials that have no result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from mrqm.config import Config
from pipelines.failures.taxonomy import FailureKind
from tune.search.searcher import Searcher, make_study
from tune.space.sampling import ConfigSampler
from tune.space.schema import make_space
from tune.state.history import INFEASIBLE, History
from tune.state.journal import read_history
from tune.state.records import Failed, Reported, Retried, SessionBegan, TrialBegan

TinyConfig = Callable[..., Config]
QUERIES = "model.num_queries"
TPE = {"search": {"algorithm": "tpe", "startup_trials": 4}}
NSGA2: dict[str, Any] = {
    "search": {"algorithm": "nsga2", "startup_trials": 4},
    "scheduler": {"algorithm": "none"},
    "objective": ["coco/AP", {"metric": "train/loss", "mode": "min"}],
}


OF_PARAMETERS = pytest.mark.parametrize("kind", [FailureKind.OUT_OF_MEMORY, FailureKind.DIVERGED])


@pytest.fixture
def make(tiny_config: TinyConfig) -> Callable[..., ConfigSampler]:
    def build(**values: Any) -> ConfigSampler:
        space = {"parameters": {QUERIES: {"int": [1, 1000]}}, "budget": {"trials": 40}} | values
        return ConfigSampler(make_space(space), tiny_config())

    return build


def search(sampler: ConfigSampler, kind: FailureKind, trials: int = 40) -> History:
    """More queries would be better, but more than 500 fail."""
    history = History([SessionBegan(trials=trials)])
    searcher = Searcher(sampler, history)
    for number in range(trials):
        suggestion = searcher.suggest()
        assert suggestion is not None
        history.follow(TrialBegan(trial=number, params=suggestion.params, attributes=suggestion.attributes))
        queries = suggestion.params[QUERIES]
        if queries > 500:
            history.follow(Failed(trial=number, error="what happened", kind=kind))
        else:
            history.follow(report(number, queries / 1000))
    return history


def report(trial: int, ap: float) -> Reported:
    metrics = {"coco/AP": ap, "train/loss": 1 - ap}
    return Reported(trial=trial, epoch=1, step=1, metrics=metrics, seconds=1, checkpoint="c", verdict="finished")


def failed(history: History) -> int:
    return sum(trial.state == "failed" for trial in history.trials)


@OF_PARAMETERS
def test_a_search_keeps_away_from_parameters_that_cannot_work(
    make: Callable[..., ConfigSampler], kind: FailureKind
) -> None:
    told, untold = (search(make(**TPE), each) for each in (kind, FailureKind.PROGRAM))
    assert failed(told) < 0.7 * failed(untold)


@OF_PARAMETERS
@pytest.mark.parametrize("space", [TPE, NSGA2], ids=["tpe", "nsga2"])
def test_a_trial_out_of_memory_or_diverged_is_infeasible_and_worst(
    make: Callable[..., ConfigSampler], space: dict[str, Any], kind: FailureKind
) -> None:
    sampler = make(**space)
    history = search(sampler, kind)
    study = make_study(sampler.space, history)
    infeasible = [trial for trial in study.trials if any(value > 0 for value in trial.constraints.values())]
    feasible = [trial for trial in study.trials if trial not in infeasible]
    assert {trial.user_attrs["trial"] for trial in infeasible} == {t.number for t in history.trials if t.violation}
    assert all(trial.constraints == {kind.value: 1.0} for trial in infeasible)
    assert infeasible and all(trial.values[0] == min(other.values[0] for other in feasible) for trial in infeasible)
    assert not {trial.number for trial in infeasible} & {trial.number for trial in study.best_trials}


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind not in INFEASIBLE])
def test_no_other_failure_says_anything_of_the_parameters(
    make: Callable[..., ConfigSampler], kind: FailureKind
) -> None:
    sampler = make(**TPE)
    study = make_study(sampler.space, search(sampler, kind, trials=8))
    assert not any(trial.constraints for trial in study.trials)


@OF_PARAMETERS
def test_all_trials_may_be_infeasible(make: Callable[..., ConfigSampler], kind: FailureKind) -> None:
    sampler = make(**TPE, parameters={QUERIES: {"int": [501, 1000]}})
    assert failed(search(sampler, kind, trials=8)) == 8


def test_a_trial_that_runs_again_is_infeasible_no_more(make: Callable[..., ConfigSampler]) -> None:
    sampler = make(**TPE)
    history = History([TrialBegan(trial=0, params={QUERIES: 900}, attributes={"tpe:relative_params": "{}"})])
    history.follow(Failed(trial=0, error="out of memory", kind=FailureKind.OUT_OF_MEMORY))
    assert make_study(sampler.space, history).trials[0].constraints
    history.follow(Retried(trial=0))
    assert not make_study(sampler.space, history).trials[0].constraints
    assert (history.trials[0].state, history.trials[0].error, history.trials[0].retries) == ("running", None, 1)


def test_a_failed_trial_keeps_what_an_old_journal_says_of_it() -> None:
    """Journals of before there were kinds have the last lines of a traceback."""
    text = (
        '  File "mrqm/checkpoint/folder.py", line 73, in save_checkpoint\n'
        "    raise\nOSError: x: No space left on device"
    )
    history = History([TrialBegan(trial=0, params={}), Failed(trial=0, error=text)])
    failure = history.trials[0].failure
    assert failure is not None
    assert (failure.kind, failure.message) == (FailureKind.STORAGE, "OSError: x: No space left on device")


def test_the_journal_of_a_sweep_whose_disk_was_full_is_read_as_that() -> None:
    path = Path(__file__).parents[3].parent / "shared" / "cases" / "sweeps" / "disk_full_sweep.jsonl"
    if not path.is_file():
        pytest.skip("the recorded journal is not at hand; it is not part of the project")
    trials = read_history(path).trials
    assert [trial.failure.kind for trial in trials if trial.failure] == [FailureKind.STORAGE] * 4


def test_a_study_is_made_without_a_word(make: Callable[..., ConfigSampler], caplog: pytest.LogCaptureFixture) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.logging.enable_propagation()
    make_study(make(**TPE).space, History())
    optuna.logging.disable_propagation()
    assert caplog.records == []
