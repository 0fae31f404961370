"""The computations of the search benchmark: a table from runs, and what sweeps find in it."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrqm.config import Config
from tune.space.sampling import ConfigSampler

IOU, RATIO = "loss.mining.base_iou", "loss.one_to_many.ratio"
GRID = [{IOU: iou, RATIO: ratio} for iou, ratio in itertools.product((0.4, 0.5, 0.6, 0.7), (1, 2, 3, 4))]
PARAMETERS = {IOU: {"uniform": [0.4, 0.7], "step": 0.1}, RATIO: {"int": [1, 4]}}


def ap(params: dict[str, Any], epoch: int) -> float:
    """Quadratic, and best at (0.6, 3)."""
    return epoch * (0.1 - (params[IOU] - 0.6) ** 2 - 0.01 * (params[RATIO] - 3) ** 2)


def rows(grid: list[dict[str, Any]], luck: float = 0.0) -> list[Any]:
    generator = np.random.default_rng(0)
    return [
        {"params": params, "ap": [ap(params, epoch) + luck * generator.normal() for epoch in (1, 2, 3)], "seconds": []}
        for params in grid
    ]


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.mark.usefixtures("benchmarks")
def test_trained_configurations_have_what_was_measured_and_the_others_what_follows() -> None:
    from search_surrogate import Surrogate

    trained = rows([params for params in GRID if params not in GRID[::5]], luck=0.001)
    table = Surrogate(GRID, trained)
    assert all(list(table.curve(row["params"])) == row["ap"] for row in trained)
    assert all(table.curve(params)[2] == pytest.approx(ap(params, 3), abs=0.03) for params in GRID[::5])
    assert GRID[int(table.expected.argmax())] == {IOU: 0.6, RATIO: 3}
    assert table.r2 > 0.9


@pytest.mark.usefixtures("benchmarks")
def test_a_fit_to_runs_that_follow_nothing_explains_nothing() -> None:
    from search_surrogate import Surrogate

    generator = np.random.default_rng(0)
    chance = [{"params": params, "ap": list(generator.random(3)), "seconds": []} for params in GRID]
    assert Surrogate(GRID, chance).r2 < 0.2


@pytest.mark.usefixtures("benchmarks")
def test_a_sweep_through_the_whole_table_ends_without_regret(tiny_config: Any) -> None:
    from search_efficiency import search, searched
    from search_surrogate import Surrogate

    from tune.space.schema import make_space

    config: Config = tiny_config("train.epochs=3")
    grid = make_space({"search": {"algorithm": "grid"}, "parameters": PARAMETERS})
    space = searched(grid, "random", {"algorithm": "none"}, seed=0, trials=len(GRID))
    found = list(search(ConfigSampler(space, config), Surrogate(GRID, rows(GRID)), at_once=2))
    assert len(found) == 3 * len(GRID)
    assert found[0].regret > 0.5
    assert found[-1] == pytest.approx((0.0, 0.0), abs=1e-9)
