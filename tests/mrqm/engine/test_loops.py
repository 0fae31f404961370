"""Loops of training and evaluation: gradient accumulation, averages of losses, detections at native size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mrqm.engine.optim import Schedule
from mrqm.engine.progress import Progress
from mrqm.engine.train_step import TrainState
from mrqm.inference.postprocess import detect
from mrqm.losses.criterion import build_criterion

CPU = torch.device("cpu")


class KeepGradients(torch.optim.Optimizer):
    """Optimizer that records the gradients of each step and changes no weight."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), {"lr": 1.0})
        self.seen: list[list[Tensor]] = []

    def step(self, closure: Any = None) -> None:
        self.seen.append([p.grad.clone() for group in self.param_groups for p in group["params"]])


def make_state(config: Any, model: nn.Module) -> TrainState:
    optimizer = KeepGradients(model)
    schedule = Schedule(optimizer, config.optim)
    return TrainState(
        model.train(), build_criterion(config.loss), optimizer, schedule, None, config, CPU, Path("nonfinite_steps")
    )


def random_batch(targets: list[dict[str, Tensor]]) -> Any:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (len(targets), 3, 64, 64), dtype=torch.uint8, generator=generator), None, targets


def test_accumulation_equals_the_big_batch(tiny_config: Any, make_model: Any, make_target: Any) -> None:
    """Each part is normalised by its own positives, so parts with equally many of every kind add up exactly."""
    config = tiny_config("model.denoising.label_noise=0", "model.denoising.box_noise=0", "optim.max_grad_norm=1e9",
                         "model.iou_aware_head.enabled=false")  # fmt: skip
    images, _, targets = random_batch(
        [make_target([(8, 8, 20, 20), (30, 30, 50, 44)]), make_target([(9, 9, 30, 30)] * 2)]
    )
    whole, parts = (make_state(config, make_model(config)) for _ in range(2))
    losses = whole.backward([(images, None, targets)])
    summed = parts.backward([(images[i : i + 1], None, targets[i : i + 1]) for i in range(2)])
    assert whole.update(0, 0.0) == parts.update(0, 0.0)
    for name, value in losses.items():
        torch.testing.assert_close(summed[name], value, rtol=1e-4, atol=1e-5)
    for accumulated, expected in zip(parts.optimizer.seen[0], whole.optimizer.seen[0], strict=True):
        torch.testing.assert_close(
            accumulated, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().clamp(1e-3).item()
        )


def test_gradients_are_clipped_and_cleared(tiny_config: Any, make_model: Any, random_target: Any) -> None:
    config = tiny_config("optim.max_grad_norm=0.01")
    state = make_state(config, make_model(config))
    state.backward([random_batch([random_target(3)])])
    state.update(0, 0.0)
    norm = torch.stack([gradient.norm() for gradient in state.optimizer.seen[0]]).norm()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)
    assert all(parameter.grad is None for parameter in state.model.parameters())


def test_detections_are_at_the_original_size(tiny_config: Any, make_model: Any, make_target: Any) -> None:
    config = tiny_config()
    model, target = make_model(config), make_target()
    native = {**target, "orig_size": torch.tensor([128, 640])}
    (small,), (large,) = (detect(model, random_batch([t]), config, CPU) for t in (target, native))
    torch.testing.assert_close(large["boxes"], small["boxes"] * torch.tensor([10.0, 2.0, 10.0, 2.0]))
    assert torch.equal(large["scores"], small["scores"])


def test_the_share_done_is_of_steps_or_of_time_whichever_is_further() -> None:
    assert Progress(total_steps=10, max_seconds=100, step=5, elapsed_seconds=20).share == 0.5
    assert Progress(total_steps=10, max_seconds=100, step=5, elapsed_seconds=70).share == 0.7
    assert Progress(total_steps=10, max_seconds=100, step=5, elapsed_seconds=170).share == 1
    assert Progress(total_steps=10, max_seconds=float("inf"), step=5, elapsed_seconds=170).eta_seconds == 170
