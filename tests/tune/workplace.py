"""A folder in which tests run `mrqm` as users do, on a cluster that outlives the commands."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray
from mlflow import MlflowClient
from mlflow.entities import Run
from ray.cluster_utils import Cluster
from ray.util import placement_group_table

from tune.entries import Reported
from tune.history import History
from tune.journal import read_history

from ..pipelines.processes import WORKER, processes_below

PATIENCE = 300.0
NUMBERS = itertools.count()
# Commands are forked from a process that has all modules, of which each would have to import them for itself.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["mrqm.__main__", "tune.results", "tune.sweep"])


def wait_until(holds: Callable[[], Any], what: str = "") -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


@dataclass(frozen=True)
class Command:
    """A command that runs, or ran, in a process of its own; what it prints goes to a file."""

    process: Any
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()

    def end(self) -> int:
        """Wait until it ends; returns its exit code."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, self.output
        return int(self.process.exitcode)

    def runs(self) -> bool:
        return self.process.exitcode is None


@dataclass(frozen=True)
class Workplace:
    """A folder with data, `tiny.yaml` and spaces, and the address of a cluster."""

    folder: Path
    address: str
    started: list[Command] = field(default_factory=list)

    def start(self, *words: str, **environment: str) -> Command:
        """`mrqm WORDS` on the cluster."""
        log = self.folder / f"{next(NUMBERS)}.log"
        process = FORKS.Process(
            target=run, args=(self.folder, log, words, {"RAY_ADDRESS": self.address, **environment})
        )
        log.touch()
        process.start()
        self.started.append(Command(process, log))
        return self.started[-1]

    def close(self) -> None:
        """End what a test that failed left running."""
        for command in self.started:
            if command.runs():
                command.kill()

    def tune(self, name: str, space: str, *words: str, **environment: str) -> Command:
        return self.start("tune", "-c", "tiny.yaml", "-s", f"{space}.yaml", f"name={name}", *words, **environment)

    def history(self, name: str) -> History:
        return read_history(self.folder / "runs" / name / "sweep.jsonl")

    def reports(self, name: str) -> list[Reported]:
        return [entry for entry in self.history(name).entries if isinstance(entry, Reported)]

    def children(self, name: str, store: str | None = None) -> dict[str, Run]:
        """MLflow runs of a sweep's trials, by name."""
        client = MlflowClient(store or f"sqlite:///{self.folder}/mlflow.db")
        runs = client.search_runs([client.get_experiment_by_name("mrqm").experiment_id])
        (parent,) = (run.info.run_id for run in runs if run.info.run_name == name)
        children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]
        assert len({run.info.run_name for run in children}) == len(children), "a trial has one run"
        return {run.info.run_name: run for run in children}


@contextlib.contextmanager
def start_cluster(**head: Any) -> Iterator[Cluster]:
    """A cluster of one node, and this process in it."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as folder:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_TMPDIR", folder)  # a cluster of somebody else stays the one that `auto` means
        for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **head})
        try:
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def run(folder: Path, log: Path, words: Iterable[str], environment: dict[str, str]) -> None:
    """What the process of a command does."""
    from mrqm.__main__ import main

    for name in [name for name in os.environ if name.startswith(("RAY_ADDRESS", "MLFLOW_TRACKING"))]:
        del os.environ[name]
    os.environ.update(environment, RAY_AUTH_MODE="disabled", COLUMNS="160")
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["mrqm", *words]
    main()


TRIAL = re.compile(r"ray::(SweepTrial|ResourceTrainable)")  # at rest, and while a method runs


def processes(cluster: Cluster, name: re.Pattern[str]) -> list[int]:
    """Ray's processes of a cluster that have such a name."""
    raylets = [info.process.pid for node in cluster.list_all_nodes() for info in node.all_processes["raylet"]]
    return [pid for raylet in raylets for pid in processes_below(raylet, name)]


def leaves_nothing(cluster: Cluster) -> bool:
    """Whether no reservation and no process of a trial is left."""
    reserved = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
    return not (reserved or processes(cluster, TRIAL) or processes(cluster, WORKER))
