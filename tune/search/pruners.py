"""Pruning of trials by functions of their reported scores, so that no scheduler has a state that could be lost.

The rules are those of Ray Tune's `ASHAScheduler` and `MedianStoppingRule`, which forget their rungs when a sweep is
interrupted (ray-project/ray #30838). ASHA: Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

import numpy as np

from tune.space.settings import SchedulerSettings

LEAST_OTHERS = 3
"""Least number of other trials that have come as far for `median` to stop one."""


class Score(NamedTuple):
    """The score of an evaluated epoch of a trial; higher is better."""

    trial: int
    epoch: int
    value: float


def ends(scores: Sequence[Score], settings: SchedulerSettings) -> bool:
    """Tell if the last score ends its trial.

    Args:
        scores: scores of all trials, in the order of their reports.
        settings: settings of `asha`, `hyperband` or `median`; any other scheduler ends no trial early.

    Returns:
        True if the trial ends.
    """
    match settings.algorithm:
        case "asha":
            return below_rung(scores, settings.grace_period, settings.reduction_factor)
        case "hyperband":  # trials enter brackets in turn, and are compared within theirs
            bracket = scores[-1].trial % settings.brackets
            peers = [score for score in scores if score.trial % settings.brackets == bracket]
            return below_rung(
                peers, settings.grace_period * settings.reduction_factor**bracket, settings.reduction_factor
            )
        case "median":
            return below_median(scores, settings.grace_period)
    return False


def below_rung(scores: Sequence[Score], first: float, reduction: float) -> bool:
    """Asynchronous successive halving: tell if the last score is not among the best 1/reduction at its rung so far.

    Args:
        scores: scores in the order of their reports.
        first: epoch of the first rung; each further one is `reduction` times as high.
        reduction: reduction factor; one trial in this many continues.

    Returns:
        True if the trial ends; False between rungs.
    """
    highest = max(score.epoch for score in scores)
    milestones = [first]
    while milestones[-1] * reduction <= highest:
        milestones.append(milestones[-1] * reduction)
    rungs: list[tuple[float, dict[int, float]]] = [(milestone, {}) for milestone in reversed(milestones)]
    below = False
    for trial, epoch, value in scores:
        rung = next((met for milestone, met in rungs if epoch >= milestone and trial not in met), None)
        below = False
        if rung is not None:
            below = bool(rung) and value < np.percentile(list(rung.values()), 100 * (1 - 1 / reduction))
            rung[trial] = value
    return below


def below_median(scores: Sequence[Score], grace: int) -> bool:
    """Tell if the best score of the last score's trial is below the median of the others' means up to that epoch.

    Args:
        scores: scores in the order of their reports.
        grace: first epoch that counts, in the means and for the comparison.

    Returns:
        True if the trial ends.
    """
    number, epoch, _ = scores[-1]
    curves: dict[int, dict[int, float]] = defaultdict(dict)
    for score in scores:
        curves[score.trial][score.epoch] = score.value
    own = curves.pop(number)
    means = [
        fmean(value for at, value in curve.items() if grace <= at <= epoch)
        for curve in curves.values()
        if max(curve) >= epoch >= grace
    ]
    return len(means) >= LEAST_OTHERS and max(own.values()) < median(means)
