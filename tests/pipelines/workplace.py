"""A folder in which tests run `mrqm train` as users do."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from ..commands import Command

SLOW_STEPS = ("data.scale=4", "data.max_side=256")
"""Overrides that make an epoch take about half a second, so that events during a training come in time."""


@dataclass(frozen=True)
class Workplace:
    """Working directory of commands, with data and a configuration."""

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "tiny.yaml"

    def start(self, *overrides: str, **environment: str) -> Command:
        """Start `mrqm train`, in a Ray session of its own unless RAY_ADDRESS is set."""
        return Command(self.folder, ["train", "-c", str(self.config_file), *overrides], environment)

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run `mrqm WORDS` as users do."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        command = [sys.executable, "-m", "mrqm", *words]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)

    def mlflow_run(self, name: str) -> mlflow.entities.Run:
        return self.mlflow_run_in(self.folder / "runs" / name)

    def mlflow_run_in(self, run: Path) -> mlflow.entities.Run:
        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        ids = json.loads((run / "mlflow.json").read_text())
        return client.get_run(next(iter(ids.values())))
