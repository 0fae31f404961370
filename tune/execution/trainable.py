"""A trial as a process of Ray Tune: what `mrqm train` does, an epoch at a time, so that a sweep can end it after any.

A process that is used for another trial has PyTorch and the rest imported: only the first one in it waits for them.
"""

from __future__ import annotations

import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import ray.tune
import torch
from ray.train import TrainingFailedError

from mrqm.checkpoint.lookup import find_checkpoint
from mrqm.config import Config, make_config
from pipelines.compute.process import configure_process
from pipelines.failures.classification import classify
from tune.execution.distributed_trial import train_on_workers
from tune.execution.train_epochs import train_epochs
from tune.space.model_cost import measure_cost
from tune.space.schema import overrides
from tune.state.history import trial_name
from tune.state.messages import Epoch, Task, Waiting


class SweepTrial(ray.tune.Trainable):
    """Ray Tune calls `step` for every epoch, and `reset_config` to begin another trial in the same process."""

    def setup(self, config: dict[str, Any], base: Config, costs: bool) -> None:
        """Begin a trial in a new process.

        Args:
            config: the task.
            base: the configuration that all trials share; `output` is the sweep's folder.
            costs: whether what a prediction costs is sought.
        """
        configure_process()
        self._base, self._with_costs = base, costs
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin a trial."""
        task: Task = new_config["task"]
        self._settings = trial_config(self._base, task)
        self._epochs = self.epochs(self._settings, task)
        self._costs: dict[str, float] | None = None
        return True

    def epochs(self, config: Config, task: Task) -> Generator[Epoch | Waiting, None, None]:
        """Its epochs, one by one: in this process, if that is all the trial has."""
        start = Path(task.checkpoint) if task.checkpoint else None
        if start is None and config.train.resume not in ("auto", "never"):
            start = find_checkpoint(config.train.resume)
        if config.scaling.max_workers > 1:
            return train_on_workers(config, start)
        return train_epochs(config, start, torch.device("cuda" if config.scaling.use_gpu else "cpu"))

    def cleanup(self) -> None:
        """The sweep has ended this trial; one on several workers ends them."""
        self._epochs.close()

    def step(self) -> dict[str, Any]:
        """Train one epoch; what the configuration or a lost worker is to blame for leaves this process as it is."""
        try:
            if self._costs is None:
                self._costs = measure_cost(self._settings) if self._with_costs else {}
            epoch = next(self._epochs)
        except (ValueError, TrainingFailedError) as error:
            return {"failure": classify(error, details=traceback.format_exc())}
        if isinstance(epoch, Waiting):
            return {"waiting": epoch.reason}
        epoch.metrics.update(self._costs)
        return {"epoch": epoch}


def trial_config(base: Config, task: Task) -> Config:
    """The configuration of a trial."""
    return make_config(base.model_dump(), [*overrides(task.params), f"name={trial_name(task.trial)}"])
