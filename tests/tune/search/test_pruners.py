import random
from dataclasses import dataclass
from typing import Any

import pytest
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule, TrialScheduler

from tune.search.pruners import Score, ends
from tune.space.settings import SchedulerSettings


@dataclass(frozen=True)
class RayTrial:
    """The attributes of a trial that Ray Tune's schedulers read."""

    trial_id: str


class Idle:
    """A controller without trials that wait."""

    def get_live_trials(self) -> list[Any]:
        return []


def interleaved(seed: int, trials: int = 12, epochs: int = 9) -> list[Score]:
    """Curves that rise at random, reported in a random order."""
    generator = random.Random(seed)
    curves = {number: iter(range(1, epochs + 1)) for number in range(trials)}
    level = {number: generator.random() for number in curves}
    scores = []
    while curves:
        number = generator.choice(list(curves)[:4])
        if (epoch := next(curves[number], None)) is None:
            del curves[number]
            continue
        scores.append(Score(number, epoch, level[number] + 0.1 * epoch + 0.1 * generator.random()))
    return scores


def decisions(scores: list[Score], settings: SchedulerSettings, epochs: int) -> list[tuple[int, int]]:
    """Find the epochs at which trials end, if those that ended report no more."""
    seen: list[Score] = []
    ended = []
    for score in scores:
        if score.trial in {number for number, _ in ended}:
            continue
        seen.append(score)
        if score.epoch < epochs and ends(seen, settings):
            ended.append((score.trial, score.epoch))
    return ended


def decisions_of_ray(scores: list[Score], scheduler: Any, epochs: int) -> list[tuple[int, int]]:
    ended: list[tuple[int, int]] = []
    for number in range(len({score.trial for score in scores})):
        scheduler.on_trial_add(None, RayTrial(str(number)))
    for score in scores:
        if score.trial in {number for number, _ in ended}:
            continue
        result = {"epoch": score.epoch, "score": score.value}
        if score.epoch == epochs:
            scheduler.on_trial_complete(None, RayTrial(str(score.trial)), result)
        elif scheduler.on_trial_result(Idle(), RayTrial(str(score.trial)), result) == TrialScheduler.STOP:
            ended.append((score.trial, score.epoch))
    return ended


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("grace", "reduction"), [(1, 3), (2, 2), (1, 4)])
def test_asha_decides_as_ray_tune_does(seed: int, grace: int, reduction: float) -> None:
    scores = interleaved(seed)
    settings = SchedulerSettings(algorithm="asha", grace_period=grace, reduction_factor=reduction)
    ray = ASHAScheduler("epoch", "score", "max", max_t=9, grace_period=grace, reduction_factor=reduction)
    ended = decisions(scores, settings, 9)
    assert ended == decisions_of_ray(scores, ray, 9)
    assert ended


@pytest.mark.parametrize("seed", range(10))
def test_median_decides_as_ray_tune_does(seed: int) -> None:
    scores = interleaved(seed)
    ray = MedianStoppingRule("epoch", "score", "max", grace_period=2)
    ended = decisions(scores, SchedulerSettings(algorithm="median", grace_period=2), 9)
    assert ended == decisions_of_ray(scores, ray, 9)
    assert ended


def test_hyperband_compares_within_brackets() -> None:
    """Trials 0 and 2 are in the first bracket, 1 and 3 in the second, whose first rung is at epoch 3."""
    settings = SchedulerSettings(algorithm="hyperband", grace_period=1, reduction_factor=3, brackets=2)
    scores = [Score(0, 1, 0.9), Score(1, 1, 0.5), Score(2, 1, 0.1)]
    assert not ends(scores[:2], settings)
    assert ends(scores, settings)
    later = [*scores, Score(1, 3, 0.6), Score(3, 1, 0.1)]
    assert not ends(later, settings)
    assert ends([*later, Score(3, 3, 0.2)], settings)


def test_without_a_scheduler_no_trial_ends_early() -> None:
    scores = [Score(0, 1, 1.0), Score(1, 1, 0.0)]
    assert not ends(scores, SchedulerSettings(algorithm="none"))
    assert ends(scores, SchedulerSettings(algorithm="asha"))
