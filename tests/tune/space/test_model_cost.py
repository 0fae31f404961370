"""Cost of a detector as an objective of a sweep."""

from __future__ import annotations

from typing import Any

import pytest

from mrqm.engine.cost import model_cost
from tune.space.model_cost import COSTS, measure_cost


@pytest.mark.parametrize("frozen_stages", [0, 1])
def test_a_configuration_costs_what_its_detector_does(frozen_stages: int, tiny_config: Any, make_model: Any) -> None:
    config = tiny_config(f"model.backbone.frozen_stages={frozen_stages}", "data.max_side=64", "data.classes=[a, b, c]")
    expected, found = model_cost(make_model(config), (64, 64)), measure_cost(config)
    assert set(found) == set(COSTS)
    assert found["cost/gflops"] == expected.flops / 1e9
    assert found["cost/parameters_m"] == expected.parameters / 1e6
    assert found["cost/latency_ms"] > 0
