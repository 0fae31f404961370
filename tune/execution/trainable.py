"""A trial as a process of Ray Tune: `mrqm train`, one epoch at a time, so that a sweep can end it after any epoch.

A process that is reused for another trial has PyTorch and other packages imported already.
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
from pipelines.failures.classification import classify
from pipelines.process.configure import configure_process
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
            config: task, under the key `task`.
            base: configuration that all trials share; `output_dir` is the sweep's folder.
            costs: True if the cost of a prediction is an objective.
        """
        configure_process()
        self._base, self._with_costs = base, costs
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in the same process; always True."""
        task: Task = new_config["task"]
        self._settings = trial_config(self._base, task)
        self._epochs = self.epochs(self._settings, task)
        self._costs: dict[str, float] | None = None
        return True

    def epochs(self, config: Config, task: Task) -> Generator[Epoch | Waiting, None, None]:
        """Train the epochs of a trial, in this process or, if the trial has several, on its workers.

        Args:
            config: configuration of the trial.
            task: trial, and the checkpoint to start from.

        Yields:
            Epochs, and reasons to wait.
        """
        start = Path(task.checkpoint) if task.checkpoint else None
        if start is None and config.train.resume not in ("auto", "never"):
            start = find_checkpoint(config.train.resume)
        if config.scaling.max_workers > 1:
            return train_on_workers(config, start)
        return train_epochs(config, start, torch.device("cuda" if config.scaling.use_gpu else "cpu"))

    def cleanup(self) -> None:
        """End the trial, and its workers if it has several."""
        self._epochs.close()

    def step(self) -> dict[str, Any]:
        """Train one epoch; errors of the configuration and lost workers are returned, so that the process is kept."""
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
    """Make the configuration of a trial.

    Args:
        base: configuration that all trials share.
        task: trial with its parameters.

    Returns:
        Validated configuration of the trial.
    """
    return make_config(base.model_dump(), [*overrides(task.params), f"name={trial_name(task.trial)}"])
