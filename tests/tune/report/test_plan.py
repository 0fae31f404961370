import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from mrqm.config import Config
from mrqm.engine.resume import checkpoint_bytes
from tune.execution.concurrency import count_trials
from tune.report.plan import make_plan, print_plan
from tune.space.sampling import ConfigSampler
from tune.space.schema import make_space

TinyConfig = Callable[..., Config]
NODES = [{"CPU": 3.0}, {"CPU": 2.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        ([], 5),
        (["scaling.cpus_per_worker=2"], 2),
        (["scaling.num_workers=2"], 2),
        (["scaling.use_gpu=true"], 1),
        (["scaling.cpus_per_worker=4"], 0),
    ],
)
def test_trials_at_once_follow_from_the_cluster(tiny_config: TinyConfig, overrides: list[str], count: int) -> None:
    assert count_trials(NODES, tiny_config(*overrides).scaling) == count


def sampler(config: Config, **values: Any) -> ConfigSampler:
    parameters = {"model.refinement.blocks": {"int": [1, 3]}, "optim.lr": {"uniform": [1e-4, 1e-3]}}
    return ConfigSampler(make_space({"parameters": parameters, "budget": {"trials": 9}} | values), config)


def test_the_plan_counts_trials_and_checkpoints(tiny_config: TinyConfig) -> None:
    config = tiny_config("train.epochs=7")
    plan = make_plan(sampler(config, keep_trials=2), config, NODES)
    assert (plan.trials, plan.epochs, plan.at_once, plan.checkpoints) == (9, 7, 5, 5 * 3 + 2)
    assert plan.checkpoint_bytes == checkpoint_bytes(tiny_config("model.refinement.blocks=3"), 1)


def test_a_grid_has_as_many_trials_as_combinations(tiny_config: TinyConfig) -> None:
    config, blocks = tiny_config(), {"model.refinement.blocks": {"int": [1, 3]}}
    grid = sampler(config, search={"algorithm": "grid"}, budget={}, parameters=blocks)
    assert make_plan(grid, config, NODES).trials == 3


@pytest.mark.parametrize(("search", "count"), [("tpe", 3), ("random", 3), ("nsga2", 9)])
def test_there_are_no_more_trials_than_combinations(tiny_config: TinyConfig, search: str, count: int) -> None:
    config, blocks = tiny_config(), {"model.refinement.blocks": {"int": [1, 3]}}
    values: dict[str, Any] = {"search": {"algorithm": search}, "parameters": blocks}
    if search == "nsga2":  # whose populations may repeat themselves
        values |= {"objective": ["coco/AP", "cost/gflops"], "scheduler": {"algorithm": "none"}}
    assert make_plan(sampler(config, **values), config, NODES).trials == count


def test_the_plan_is_printed(tiny_config: TinyConfig) -> None:
    config, log = tiny_config("train.epochs=7"), io.StringIO()
    one = sampler(config)
    print_plan(make_plan(one, config, NODES), one, config, Console(file=log, width=120))
    for words in ("tpe, asha, for max coco/AP", "9 of 7 epochs, 5 at once", "model.refinement.blocks  int 1 … 3"):
        assert words in log.getvalue()
