"""An uninterrupted training without Ray, for comparison."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from mrqm.config import Config
from mrqm.engine.trainer import Trainer
from pipelines.storage.absolute_paths import with_absolute_paths
from pipelines.storage.run_summary import Summary

from ...ranks import run_ranks


def assert_as_if_uninterrupted(config: Config, summary: Summary, scratch: Path, ranks: int = 1) -> None:
    """Compare every epoch's mean loss and the last weights of a run with an uninterrupted training, bit for bit."""
    run_ranks(_train, ranks, with_absolute_paths(config), scratch)
    losses, weights = json.loads((scratch / "losses.json").read_text()), load_file(scratch / "weights.safetensors")
    told = MlflowClient(summary.tracking_uri).get_metric_history(summary.run_id, "train/epoch_loss")
    assert [metric.value for metric in told] == losses
    last = load_file(Path(summary.folder) / f"epoch_{len(losses):04d}" / "model.safetensors")
    assert last.keys() == weights.keys()
    for name, value in last.items():
        assert torch.equal(value, weights[name]), name


def _train(config: Config, scratch: Path) -> None:
    trainer = Trainer(config, torch.device("cpu"))
    losses = []
    while not trainer.finished:
        losses.append(trainer.train_epoch()["loss"])
    if trainer.rank == 0:
        weights = {name: value.contiguous() for name, value in trainer.model.state_dict().items()}
        save_file(weights, scratch / "weights.safetensors")
        (scratch / "losses.json").write_text(json.dumps(losses))
