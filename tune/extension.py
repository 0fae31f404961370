"""Extensions of a sweep: a space with which all it learned still counts, and more trials once it has finished."""

from __future__ import annotations

import itertools

from pipelines.runs import RunError
from tune.candidates import Candidates
from tune.history import History
from tune.plan import count_all
from tune.space import Space
from tune.values import as_word, canonical

FREE = ("about", "budget", "fixed", "keep_trials", "paper", "parameters", "name")
"""Parts that may change, or are looked at more closely; what is fixed is part of the configuration."""


def find_differences(former: Space, space: Space) -> list[str]:
    """List all that makes a space another one, a line for each part.

    Args:
        former: of the sweep until now.
        space: of the command.
    """
    then, now = former.model_dump(mode="json"), space.model_dump(mode="json")
    lines = [
        f"{part}: {as_word(then[part])} there, {as_word(now[part])} now"
        for part in then
        if part not in FREE and canonical(then[part]) != canonical(now[part])
    ]
    for key in former.parameters.keys() | space.parameters.keys():
        old, new = former.parameters.get(key), space.parameters.get(key)
        if old is None or new is None:
            lines.append(f"parameters.{key}: only {'now' if old is None else 'there'}")
        elif not new.contains(old):
            lines.append(f"parameters.{key}: {old.describe()} there, {new.describe()} now")
    return sorted(lines)


def count_wanted(candidates: Candidates, history: History, more: int, gpus: int) -> int:
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
    if more and (objection := _objection_to_more(candidates, history, wanted, more, gpus)):
        raise RunError(f"--add-trials {more}: {objection}")
    return wanted + more


def _objection_to_more(candidates: Candidates, history: History, wanted: int, more: int, gpus: int) -> str | None:
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
        fresh = (one for one in (*candidates.start, *candidates.grid()) if candidates.identity(one) not in known)
        if (left := len(list(itertools.islice(fresh, more)))) < more:
            return f"combinations of the searched keys that are left: {left}; add choices or widen a range"
    return None
