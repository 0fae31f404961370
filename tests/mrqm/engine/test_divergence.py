"""Replay of saved steps repeats their losses and gradients."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mrqm.checkpoint.lookup import CheckpointError
from mrqm.config import Config
from mrqm.engine.divergence import Divergence, replay, save_divergence
from mrqm.engine.progress import DivergenceError
from mrqm.engine.trainer import Trainer
from mrqm.ops.distributed import unwrap

CPU = torch.device("cpu")


@pytest.fixture
def config(squares: Any, tiny_config: Any, tmp_path: Path) -> Config:
    root = squares(images=4, side=72, objects=3)  # padded to 96 px: masks are kept too
    made: Config = tiny_config(f"data.root={root}", "data.classes=[blue, yellow]", f"output_dir={tmp_path}")
    return made


def test_a_step_is_repeated_from_the_same_noise(config: Config, tmp_path: Path) -> None:
    trainer = Trainer(config, CPU)
    trainer.train_loader.set_epoch(0)
    batches = list(trainer.train_loader)
    unwrap(trainer.state.model).train()
    torch.manual_seed(7)
    losses = {name: value.item() for name, value in trainer.state.backward(batches).items()}
    divergence = Divergence(1, 1, 0, noise_seed=7, losses=losses, not_finite=())
    save_divergence(tmp_path / "kept", trainer.state.model, batches, trainer.config, divergence)
    again = replay(tmp_path / "kept", CPU)
    assert again.losses == pytest.approx(losses)
    assert again.divergence == divergence
    assert again.first_bad_module is None
    assert math.isfinite(again.gradient_norm)


def test_the_first_part_that_is_not_finite_is_named(config: Config, tmp_path: Path) -> None:
    trainer = Trainer(config, CPU)
    with torch.no_grad():
        unwrap(trainer.state.model).decoder.class_head.bias.fill_(math.nan)
    with pytest.raises(DivergenceError):
        trainer.train_epoch()
    again = replay(tmp_path / "tiny" / "nonfinite_steps" / "step_000001" / "rank_0", CPU)
    assert again.first_bad_module == "decoder.class_head"
    assert math.isnan(again.losses["loss"])
    assert "loss_class" in again.divergence.not_finite


def test_a_folder_without_a_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"divergence\.json"):
        replay(tmp_path, CPU)
