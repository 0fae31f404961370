"""A worker's report of the epochs before its start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from mrqm.config import Config
from mrqm.engine.trainer import Trainer
from pipelines.storage.checkpoints import CheckpointStore, checkpoint_name
from pipelines.storage.filesystem import open_storage
from pipelines.storage.run_dir import RunFolder
from pipelines.tracking.tracker import Tracker
from pipelines.training.epoch_reports import report_former_epochs

TinyConfig = Callable[..., Config]


@pytest.fixture
def config(squares: Any, tiny_config: TinyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = squares(images=4, side=64, objects=3)
    places = (f"output_dir={tmp_path}", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db")
    return tiny_config(f"data.root={root}", "data.classes=[blue, yellow]", "train.epochs=4", *places)


@pytest.mark.slow
def test_epochs_of_which_the_driver_did_not_hear_are_told_by_the_next_workers(config: Config) -> None:
    """The driver dies after the first of three epochs; the scores of the third are only where its checkpoint is."""
    store = CheckpointStore(open_storage(config.output_dir, config.name), keep=1)
    trainer = Trainer(config, torch.device("cpu"))
    losses, scores = [], []
    for epoch in (1, 2, 3):
        losses.append(trainer.train_epoch()["loss"])
        store.write(checkpoint_name(epoch), trainer.snapshot({"train/loss": losses[-1]}))
        scores.append(trainer.evaluate()["coco/AP"])
    store.score(checkpoint_name(3), {"coco/AP": scores[-1]})

    resumed = Trainer(config, torch.device("cpu"))
    with store.open(checkpoint_name(3)) as folder:
        resumed.load(folder)
    told = report_former_epochs(resumed, store).epochs
    steps = [report.step for report in told]
    with Tracker(config, RunFolder(config)) as tracker:
        tracker.log_metrics({"epoch": 1, "train/epoch_loss": losses[0], "coco/AP": scores[0]}, steps[0])
        for report in told:
            tracker.log_epoch(report, {})

    assert [report.epoch for report in told] == [1, 2, 3]
    assert steps[-1] == trainer.step
    history = MlflowClient(tracker.uri).get_metric_history
    for name, values in (("epoch", [1, 2, 3]), ("train/epoch_loss", losses), ("coco/AP", scores)):
        assert [(m.step, m.value) for m in history(tracker.run_id, name)] == list(zip(steps, values, strict=True)), name
