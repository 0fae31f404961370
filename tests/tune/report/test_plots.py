"""The figures of a sweep; the sweep is simulated, the figures are Optuna's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from plotly.graph_objects import Figure

from mrqm.config import Config
from tune.report.plots import figures
from tune.space.schema import short_names

from ..simulation import EPOCHS, Simulation

TinyConfig = Callable[..., Config]
IOU, WEIGHT = "loss.mining.base_iou", "loss.one_to_many.dense_loss_weight"


def score(params: Mapping[str, Any], epoch: int) -> float:
    return 1 - abs(params[IOU] - 0.55) - 0.1 * abs(params[WEIGHT] - 1) + 0.05 * epoch


@pytest.fixture
def drawn(tiny_config: TinyConfig, tmp_path: Path) -> dict[str, Figure]:
    """The figures of a sweep by their titles."""
    parameters = {IOU: {"uniform": [0.3, 0.8]}, WEIGHT: {"loguniform": [0.1, 10]}}
    search = {"algorithm": "random"}
    sweep = Simulation(tiny_config(f"train.epochs={EPOCHS}"), tmp_path, score, parameters=parameters, search=search)
    return dict(figures(sweep.sampler.space, sweep.run()))


def test_every_trial_has_a_learning_curve(drawn: Mapping[str, Figure]) -> None:
    curves = next(iter(drawn.values()))
    assert [curve.name.split(",")[0] for curve in curves.data] == [f"trial {number}" for number in range(9)]
    assert max(len(curve.x) for curve in curves.data) == EPOCHS


def test_the_best_trial_is_drawn_darkest(drawn: Mapping[str, Figure]) -> None:
    lines = [line for line in drawn["All trials, by all keys"].data if line.mode == "lines"]
    brightness = [sum(map(float, re.findall(r"[\d.]+", line.line.color)[:3])) for line in lines]
    heights = [line.y[0] for line in lines]  # on the axis of the objective
    assert brightness.index(min(brightness)) == heights.index(max(heights))


def test_keys_have_the_names_of_the_leaderboard(drawn: Mapping[str, Figure]) -> None:
    assert list(drawn["All trials, by all keys"].layout.xaxis.ticktext) == ["coco/AP", "base_iou", "dense_loss_weight"]
    assert short_names(["a.x", "b.x", "b.y"]) == {"a.x": "a.x", "b.x": "b.x", "b.y": "y"}


def test_figures_leave_title_and_width_to_the_page(drawn: Mapping[str, Figure]) -> None:
    assert all(figure.layout.title.text is None and figure.layout.width is None for figure in drawn.values())
