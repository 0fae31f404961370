"""Parameters and FLOPs of a detector, against those of its layers counted by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mrqm.engine.cost import count_flops, model_cost


def test_flops_are_two_per_multiply_add() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Flatten(2), nn.Linear(16, 5, bias=False))
    expected = 2 * (3 * 8 * 9 * 16 + 8 * 16 * 5)
    assert count_flops(layers.to("meta"), torch.empty(1, 3, 4, 4, device="meta")) == expected


def test_a_bilinear_sample_is_four_multiply_adds() -> None:
    values, places = torch.empty(2, 6, 4, 4, device="meta"), torch.empty(2, 3, 5, 2, device="meta")
    sample = nn.functional.grid_sample
    assert count_flops(lambda: sample(values, places, align_corners=False)) == 2 * 6 * 3 * 5 * 8


def test_a_detector_costs_what_is_used_of_it(tiny_config: Any, make_model: Any) -> None:
    config = tiny_config()
    cost = model_cost(make_model(config), (64, 64))
    parts = dict(make_model(config).named_children())
    used = [part for name, part in parts.items() if name not in ("denoising", "iou_aware_head")]
    assert cost.parameters == sum(parameter.numel() for part in used for parameter in part.parameters())
    assert 3.5 < model_cost(make_model(config), (128, 128)).flops / cost.flops <= 4  # only the queries stay as many


def test_fewer_refined_tokens_cost_less(tiny_config: Any, make_model: Any) -> None:
    whole, part = (model_cost(make_model(tiny_config(f"model.refinement.low_level_share={share}")), (64, 64))
                   for share in (1, 0.25))  # fmt: skip
    assert part.flops < whole.flops
