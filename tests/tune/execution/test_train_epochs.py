"""The epochs of a trial: it starts from the sweep's copy of the detector that it names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mrqm.checkpoint.folder import save_checkpoint
from mrqm.config import Config, TrackingConfig
from pipelines.registry.ancestors.source import ancestor_on_disk
from pipelines.storage.ancestors import keep_ancestor
from pipelines.storage.filesystem import open_storage
from tune.execution.train_epochs import train_epochs
from tune.state.messages import Epoch

TinyConfig = Callable[..., Config]


def test_a_trial_starts_from_the_sweeps_copy_of_a_detector(
    squares: Callable[..., Path], tiny_config: TinyConfig, make_model: Any, tmp_path: Path
) -> None:
    root = squares(images=2, side=64, objects=3)
    config = tiny_config(
        f"data.root={root}", "data.classes=[blue, yellow]", f"output_dir={tmp_path}/runs/sweep", "name=trial-0003",
        "model.init=parent", "train.epochs=1", "optim.lr=1e-30", "optim.ema_decay=0",
    )  # fmt: skip
    save_checkpoint(tmp_path / "parent", make_model(config).state_dict(), {}, config, {})
    (tmp_path / "runs/sweep").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with ancestor_on_disk("parent", sweep := open_storage("runs", "sweep"), TrackingConfig()) as found:
            assert found is not None
            keep_ancestor(sweep, found.weights, found.record)
    shutil.move(tmp_path / "parent", tmp_path / "moved")
    (epoch,) = train_epochs(config, None, torch.device("cpu"))
    assert isinstance(epoch, Epoch)
    before, after = load_file(tmp_path / "moved/model.safetensors"), load_file(f"{epoch.checkpoint}/model.safetensors")
    assert all(torch.allclose(value, before[name], atol=1e-6) for name, value in after.items())
