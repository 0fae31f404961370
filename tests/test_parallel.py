"""Two gloo workers must learn what one worker with the whole batch learns; this file is also the workers' program."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from mrqm.config import load_config
from mrqm.criterion import build_criterion, total_loss
from mrqm.models.mrqm import build_model

OBJECTS = {
    "objects everywhere": [3, 2, 5, 1, 1, 4, 0, 2],
    "one rank without objects": [3, 0, 5, 0, 1, 0, 2, 0],
    "a single object": [0, 0, 1, 0, 0, 0, 0, 0],
    "no objects": [0] * 8,
}


def one_step(folder: Path, rank: int, world_size: int) -> dict[str, Tensor]:
    """Losses and gradients of one rank's share of the batch in `folder`."""
    config = load_config(folder / "config.yaml")
    model: torch.nn.Module = build_model(config, 3)
    given = torch.load(folder / "given.pt", weights_only=True)
    model.load_state_dict(given["model"])
    named = dict(model.train().named_parameters())
    if world_size > 1:
        model = DistributedDataParallel(model)
    images, targets = given["images"][rank::world_size], given["targets"][rank::world_size]
    losses = build_criterion(config.loss)(model(images, None, targets), targets)
    total_loss(losses, config.loss).backward()
    found = losses | {name: parameter.grad for name, parameter in named.items()}
    return {name: value.detach() for name, value in found.items()}


def run_two_workers(folder: Path) -> list[dict[str, Tensor]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, folder],
            env={**os.environ, **environment, "RANK": str(rank)},
            cwd=Path(__file__).parents[1],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=200)
        assert worker.returncode == 0, errors
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture
def write_batch(tmp_path: Path, tiny_config: Any, make_model: Any, random_target: Any) -> Any:
    """Leave a model and a batch of eight images, without any noise, in a folder."""

    def write(counts: list[int], *overrides: str) -> Path:
        config = tiny_config("model.denoising.label_noise=0", "model.denoising.box_noise=0", *overrides)
        (tmp_path / "config.yaml").write_text(config.to_yaml())
        model = make_model(config).state_dict()
        images = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        targets = [random_target(count, seed) for seed, count in enumerate(counts)]
        torch.save({"model": model, "images": images, "targets": targets}, tmp_path / "given.pt")
        return tmp_path

    return write


@pytest.mark.slow
@pytest.mark.parametrize("supervision", ["one_to_one", "mined"])
@pytest.mark.parametrize("counts", OBJECTS.values(), ids=OBJECTS.keys())
def test_two_workers_give_the_losses_and_gradients_of_one(
    counts: list[int], supervision: str, write_batch: Any
) -> None:
    folder = write_batch(counts, f"loss.encoder_supervision={supervision}")
    alone = one_step(folder, 0, 1)
    first, second = run_two_workers(folder)
    assert first.keys() == second.keys() == alone.keys()
    for name, expected in alone.items():
        mean = (first[name] + second[name]) / 2
        scale = expected.abs().max().clamp(min=1e-3).item()
        torch.testing.assert_close(mean, expected, rtol=1e-3, atol=1e-4 * scale, msg=lambda m, name=name: f"{name}: {m}")
        if not name.startswith("loss_"):
            assert torch.equal(first[name], second[name]), name


if __name__ == "__main__":
    own_folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.save(one_step(own_folder, dist.get_rank(), dist.get_world_size()), own_folder / f"rank{dist.get_rank()}.pt")
    dist.destroy_process_group()
