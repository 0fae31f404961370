"""A training that nothing interrupts, without Ray; this file is also the program of its ranks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from mrqm.config import Config, load_config
from mrqm.trainer import Trainer
from pipelines.runs import Summary, with_absolute_paths


def assert_as_if_uninterrupted(config: Config, summary: Summary, scratch: Path, ranks: int = 1) -> None:
    """Every epoch's mean loss and the last weights of a run, bit for bit."""
    losses, weights = _train_by(ranks, config, scratch)
    told = MlflowClient(summary.tracking_uri).get_metric_history(summary.run_id, "train/epoch_loss")
    assert [metric.value for metric in told] == losses
    last = load_file(Path(summary.folder) / f"epoch_{len(losses):04d}" / "model.safetensors")
    assert last.keys() == weights.keys()
    for name, value in last.items():
        assert torch.equal(value, weights[name]), name


def _train_by(ranks: int, config: Config, scratch: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    (scratch / "config.yaml").write_text(with_absolute_paths(config).to_yaml())
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, scratch], env={**os.environ, **place, "RANK": str(rank)}, stderr=subprocess.PIPE
        )
        for rank in range(ranks)
    ]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    return json.loads((scratch / "losses.json").read_text()), load_file(scratch / "weights.safetensors")


def main(scratch: Path) -> None:
    config = load_config(scratch / "config.yaml")
    torch.set_num_threads(config.scaling.cpus_per_worker)
    if int(os.environ["WORLD_SIZE"]) > 1:
        dist.init_process_group("gloo")
    trainer = Trainer(config, torch.device("cpu"))
    losses = []
    while not trainer.finished:
        losses.append(trainer.train_epoch()["loss"])
    if trainer.rank == 0:
        weights = {name: value.contiguous() for name, value in trainer.model.state_dict().items()}
        save_file(weights, scratch / "weights.safetensors")
        (scratch / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
