"""Two gloo workers against one worker with the whole batch: equal losses and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from mrqm.config import load_config
from mrqm.losses.criterion import build_criterion, total_loss
from mrqm.models.mrqm import build_model

from ...ranks import run_ranks

OBJECTS = {
    "objects everywhere": [3, 2, 5, 1, 1, 4, 2],
    "one rank without objects": [3, 0, 5, 0, 1, 0, 2],
    "a single object": [0, 0, 1, 0, 0, 0, 0],
    "no objects": [0] * 7,
}


CASES = [(name, supervision) for name in OBJECTS for supervision in ("one_to_one", "mined")]
Found = dict[str, dict[str, Tensor]]


def learn(folder: Path, rank: int, world_size: int) -> Found:
    """Compute losses and gradients of one rank's part of each case's batch in `folder`."""
    given = torch.load(folder / "given.pt", weights_only=True)
    found: Found = {}
    for name, supervision in CASES:
        config = load_config(folder / "config.yaml", [f"loss.encoder_supervision={supervision}"])
        model: torch.nn.Module = build_model(config, 3)
        model.load_state_dict(given["model"])
        parameters = dict(model.train().named_parameters())
        if world_size > 1:
            model = DistributedDataParallel(model)
        images, targets = given["images"][rank::world_size], given[name][rank::world_size]
        losses = build_criterion(config.loss)(model(images, None, targets), targets)
        total_loss(losses, config.loss).backward()
        gradients = {key: parameter.grad for key, parameter in parameters.items()}
        found[f"{name}, {supervision}"] = {key: value.detach() for key, value in (losses | gradients).items()}
    return found


def save_learned(folder: Path) -> None:
    """Run one of two workers."""
    torch.save(learn(folder, dist.get_rank(), dist.get_world_size()), folder / f"rank{dist.get_rank()}.pt")


@pytest.fixture(scope="module")
def learned(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: Any, make_model: Any, random_target: Any
) -> tuple[Found, list[Found]]:
    """Losses and gradients of one worker, and of two with four and three images, for batches of seven without noise."""
    folder = tmp_path_factory.mktemp("parallel")
    config = tiny_config("model.denoising.label_noise=0", "model.denoising.box_noise=0")
    (folder / "config.yaml").write_text(config.to_yaml())
    images = torch.randint(0, 256, (7, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    targets = {name: [random_target(n, seed) for seed, n in enumerate(counts)] for name, counts in OBJECTS.items()}
    torch.save({"model": make_model(config).state_dict(), "images": images, **targets}, folder / "given.pt")
    run_ranks(save_learned, 2, folder)
    return learn(folder, 0, 1), [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", [", ".join(case) for case in CASES])
def test_two_workers_give_the_losses_and_gradients_of_one(case: str, learned: tuple[Found, list[Found]]) -> None:
    alone, (first, second) = learned[0][case], (found[case] for found in learned[1])
    assert first.keys() == second.keys() == alone.keys()
    for name, expected in alone.items():
        scale = expected.abs().max().clamp(min=1e-3).item()
        mean = (first[name] + second[name]) / 2
        torch.testing.assert_close(
            mean, expected, rtol=1e-3, atol=1e-4 * scale, msg=lambda m, name=name: f"{name}: {m}"
        )
        assert name.startswith("loss_") or torch.equal(first[name], second[name]), name
