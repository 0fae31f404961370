"""One recipe on any number of workers: batch, learning rate and warm-up follow from the images per worker."""

from __future__ import annotations

import math

import pytest

from mrqm.config import ConfigError, make_config
from mrqm.config.batch_scaling import describe_batch, resolve_batch

RECIPE = ("train.batch_size=16", "optim.lr=1e-4", "optim.warmup_steps=500", "train.batch_size_per_worker=8")


@pytest.mark.parametrize(
    ("rule", "workers", "rate", "warmup"),
    [
        ("sqrt", 1, 1e-4 * math.sqrt(0.5), 1000), ("sqrt", 2, 1e-4, 500), ("sqrt", 8, 2e-4, 125),
        ("sqrt", 64, 1e-4 * math.sqrt(32), 16), ("linear", 64, 32e-4, 16), ("none", 64, 1e-4, 16),
    ],
)  # fmt: skip
def test_the_rate_follows_the_batch(rule: str, workers: int, rate: float, warmup: int) -> None:
    config = make_config({}, [*RECIPE, f"optim.lr_batch_rule={rule}", f"scaling.num_workers={workers}"])
    resolved = resolve_batch(config)
    assert resolved.train.batch_size == 8 * workers
    assert resolved.optim.lr == pytest.approx(rate)
    assert resolved.optim.warmup_steps == warmup
    assert resolve_batch(resolved) == resolved
    assert make_config(resolved.model_dump()) == resolved
    assert resolved.micro_batch_size == config.micro_batch_size == 8


def test_a_recipe_without_it_stays_as_it_is() -> None:
    config = make_config({}, ["train.batch_size=16", "scaling.num_workers=4"])
    assert resolve_batch(config) is config
    assert describe_batch(config) is None


def test_what_becomes_of_the_rate_is_said() -> None:
    config = make_config({}, [*RECIPE, "scaling.num_workers=8"])
    assert describe_batch(config) == (
        "64 images per step: 8 on each of 8 workers; optim.lr 0.0001, for train.batch_size=16, becomes 0.0002 "
        "(optim.lr_batch_rule=sqrt)"
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "scaling.num_workers=[2,4]",
            r"_per_worker=8 needs a fixed number of workers.*scaling\.num_workers=4",
        ),
        ("train.gradient_accumulation_steps=3", r"_per_worker=8 must be a multiple of .*_steps=3"),
    ],
)
def test_a_batch_that_is_not_fixed_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config({}, [*RECIPE, override])
