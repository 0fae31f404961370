"""Parameter groups and the learning rate schedule."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mrqm.config import OptimConfig
from mrqm.engine.optim import Schedule, build_optimizer


def groups_of(model: Any, config: OptimConfig) -> dict[str, dict[str, Any]]:
    """Map each named parameter to its group of the optimizer."""
    owner = {id(p): group for group in build_optimizer(model, config).param_groups for p in group["params"]}
    return {name: owner[id(p)] for name, p in model.named_parameters() if id(p) in owner}


def test_every_parameter_is_optimised_once(tiny_config: Any, make_model: Any) -> None:
    model = make_model(tiny_config())
    optimised = [p for group in build_optimizer(model, OptimConfig()).param_groups for p in group["params"]]
    assert len(optimised) == len({id(p) for p in optimised}) == len(list(model.parameters()))


def test_the_backbone_has_its_own_rate(tiny_config: Any, make_model: Any) -> None:
    groups = groups_of(make_model(tiny_config()), OptimConfig(lr=1e-3, backbone_lr_factor=0.1))
    for name, group in groups.items():
        assert group["lr"] == pytest.approx(1e-4 if name.startswith("backbone.") else 1e-3), name


def test_norms_biases_and_embeddings_do_not_decay(tiny_config: Any, make_model: Any) -> None:
    groups = groups_of(make_model(tiny_config()), OptimConfig(weight_decay=0.3))
    still = {"query_selection.content.weight", "denoising.label_embedding.weight", "encoder.level_embedding"}
    assert still <= groups.keys()
    for name, group in groups.items():
        decays = not (name in still or name.endswith("bias") or ".norm" in name or "_norm" in name or "fusion" in name)
        if decays and not name.startswith("backbone.") and name.endswith("weight") and group["params"][0].ndim > 1:
            assert group["weight_decay"] == 0.3, name
        if not decays:
            assert group["weight_decay"] == 0, name


def test_a_factor_of_zero_freezes_the_backbone(tiny_config: Any, make_model: Any) -> None:
    model = make_model(tiny_config())
    groups = groups_of(model, OptimConfig(backbone_lr_factor=0))
    assert not any(name.startswith("backbone.") for name in groups)
    assert not any(p.requires_grad for p in model.backbone.parameters())


def rates(config: OptimConfig, points: list[tuple[int, float]]) -> list[float]:
    parameters = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": config.lr * f} for f in (1.0, 0.1)]
    optimizer = torch.optim.AdamW(parameters)
    schedule = Schedule(optimizer, config)
    found = []
    for point in points:
        found.append(schedule.set(*point))
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([found[-1], found[-1] * 0.1])
    return found


def test_warm_up_is_linear_in_steps() -> None:
    config = OptimConfig(lr=1.0, warmup_steps=4)
    assert rates(config, [(0, 0), (1, 0), (3, 0), (4, 0)]) == [0.25, 0.5, 1.0, 1.0]


def test_the_step_schedule_drops_once_at_its_share() -> None:
    config = OptimConfig(lr=1.0, warmup_steps=0, step_at=0.5)
    assert rates(config, [(9, 0.0), (9, 0.49), (9, 0.5), (9, 1.0)]) == pytest.approx([1, 1, 0.1, 0.1])


def test_the_cosine_schedule_ends_at_a_hundredth() -> None:
    config = OptimConfig(lr=1.0, warmup_steps=0, lr_scheduler="cosine")
    assert rates(config, [(9, 0.0), (9, 0.5), (9, 1.0), (9, 1.2)]) == pytest.approx([1, 0.505, 0.01, 0.01])


def test_the_flat_cosine_schedule_falls_from_a_given_share_on() -> None:
    config = OptimConfig(lr=1.0, warmup_steps=0, lr_scheduler="flat_cosine", flat_until=0.6)
    assert rates(config, [(9, 0.0), (9, 0.6), (9, 0.8), (9, 1.0)]) == pytest.approx([1, 1, 0.505, 0.01])
