"""A folder in which tests run `mrqm` as users do, on a cluster that continues after the commands."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray
from mlflow import MlflowClient
from mlflow.entities import Run
from ray.cluster_utils import Cluster

from tune.state.history import History
from tune.state.journal import read_history
from tune.state.records import Reported

from ..commands import Command
from ..forked_workers import forked_workers
from ..pipelines.processes import WORKER, running
from ..pipelines.reservations import reservation_states


@dataclass(frozen=True)
class Workplace:
    """A folder with data, `tiny.yaml` and spaces, and the address of a cluster."""

    folder: Path
    address: str
    started: list[Command] = field(default_factory=list)

    def start(self, *words: str, **environment: str | None) -> Command:
        """Start `mrqm WORDS` on the cluster, without the variables of the environment that are None."""
        given = {"RAY_ADDRESS": self.address, **environment}
        self.started.append(
            Command(self.folder, words, {name: value for name, value in given.items() if value is not None})
        )
        return self.started[-1]

    def close(self) -> None:
        """Kill the commands that a failed test left running."""
        for command in self.started:
            if command.runs():
                command.kill()

    def tune(self, name: str, space: str, *words: str, **environment: str | None) -> Command:
        return self.start("tune", "-c", "tiny.yaml", "-s", f"{space}.yaml", f"name={name}", *words, **environment)

    def history(self, name: str) -> History:
        return read_history(self.folder / "runs" / name / "sweep.jsonl")

    def reports(self, name: str) -> list[Reported]:
        return [entry for entry in self.history(name).entries if isinstance(entry, Reported)]

    def run(self, name: str, store: str | None = None) -> Run:
        """MLflow run of a sweep."""
        (found,) = (run for run in self._runs(store) if run.info.run_name == name)
        return found

    def children(self, name: str, store: str | None = None) -> dict[str, Run]:
        """Return the MLflow runs of a sweep's trials, by name."""
        parent = self.run(name, store).info.run_id
        children = [run for run in self._runs(store) if run.data.tags.get("mlflow.parentRunId") == parent]
        assert len({run.info.run_name for run in children}) == len(children), "a trial has one run"
        return {run.info.run_name: run for run in children}

    def _runs(self, store: str | None) -> list[Run]:
        client = MlflowClient(store or f"sqlite:///{self.folder}/mlflow.db")
        return list(client.search_runs([client.get_experiment_by_name("mrqm").experiment_id]))


@contextlib.contextmanager
def start_cluster(**head: Any) -> Iterator[Cluster]:
    """Start a cluster of one node, and connect this process to it."""
    with (
        forked_workers(),
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ray") as folder,
    ):
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_TMPDIR", folder)  # so that `auto` still means another user's cluster
        for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **head})
        try:
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


TRIAL = re.compile(r"ray::(SweepTrial|ResourceTrainable)")  # idle, and while a method runs


def leaves_nothing() -> bool:
    """Tell if no reservation and no process of a trial is left."""
    reserved = reservation_states() - {"REMOVED"}
    return not (reserved or running(TRIAL) or running(WORKER))
