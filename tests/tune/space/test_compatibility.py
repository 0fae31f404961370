"""More trials for a sweep: as many as were asked for, or a reason why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mrqm.config import Config
from pipelines.storage.run_dir import RunError
from tune.report.plan import count_wanted
from tune.space.sampling import ConfigSampler
from tune.space.schema import make_space
from tune.state.history import History
from tune.state.records import AnyEntry, Failed, Reported, SessionBegan, TrialBegan, Verdict

TinyConfig = Callable[..., Config]
RATIO = "loss.one_to_many.ratio"


def began(number: int) -> TrialBegan:
    return TrialBegan(at=0, trial=number, params={RATIO: number + 1})


def ended(number: int, verdict: Verdict = "finished") -> list[AnyEntry]:
    result = Reported(
        at=7200, trial=number, epoch=1, step=1, metrics={"coco/AP": 0.1}, seconds=3600, checkpoint="c", verdict=verdict
    )
    return [began(number), result]


@pytest.fixture
def wanted(tiny_config: TinyConfig) -> Callable[..., int]:
    """Count the trials that a sweep of three shall have, after these entries and with these settings."""

    def count(entries: list[AnyEntry], more: int, gpus: int = 0, **space: Any) -> int:
        usual = {"parameters": {RATIO: {"int": [1, 9]}}, "budget": {"trials": 3}}
        sampler = ConfigSampler(make_space(usual | space), tiny_config())
        return count_wanted(sampler, History([SessionBegan(at=0, trials=3), *entries]), more, gpus)

    return count


FINISHED = [*ended(0), *ended(1, "pruned"), *ended(2)]


def test_a_finished_sweep_is_given_more(wanted: Callable[..., int]) -> None:
    assert wanted(FINISHED, 0) == 3
    assert wanted(FINISHED, 4) == 7
    assert wanted([*FINISHED, SessionBegan(at=0, trials=7)], 0) == 7


def test_a_larger_budget_extends_whatever_there_is(wanted: Callable[..., int]) -> None:
    assert wanted(ended(0), 0, budget={"trials": 9}) == 9


@pytest.mark.parametrize(
    ("entries", "space", "reason"),
    [
        ([], {}, r"has not begun; set budget\.trials"),
        ([*ended(0), began(1)], {}, r"1 of its 3 trials have ended.*the same command without it.*budget\.trials: 7"),
        ([*ended(0), *ended(1), began(2)], {}, "2 of its 3 trials have ended"),
        (FINISHED, {"budget": {"trials": 5}}, "3 of its 5 trials have ended"),
        (FINISHED, {"budget": {"trials": 3, "hours": 1}}, r"raise budget\.hours"),
        (FINISHED, {"budget": {"trials": 3, "gpu_hours": 1}}, r"raise budget\.hours or budget\.gpu_hours"),
        ([began(n) for n in range(3)] + [Failed(trial=n, error="e") for n in range(3)], {}, "all of its trials failed"),
        (FINISHED, {"parameters": {RATIO: {"int": [1, 3]}}}, "that are left: 0; add choices"),
        (FINISHED, {"parameters": {RATIO: {"choice": [1, 2, 3, 4]}}}, "that are left: 1; add choices"),
        (FINISHED, {"search": {"algorithm": "random"}, "scheduler": {"algorithm": "pbt"}, "parameters": {
            "loss.mining.base_iou": {"uniform": [0.4, 0.6]}}}, "a population train together"),
    ],
)  # fmt: skip
def test_more_trials_are_refused_with_the_reason(
    wanted: Callable[..., int], entries: list[AnyEntry], space: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RunError, match=rf"--add-trials 4: .*{reason}"):
        wanted(entries, 4, gpus=1, **space)
