"""A plain `mlflow server` with its own database and artifacts."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ...forks import FORKS, become_command
from ..registered import free_port

SETTINGS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


class MlflowServer:
    """A server on loopback that can be stopped and started again, at the same address and with the same data.

    Args:
        folder: folder for its artifacts and its log.
        store: URI of its database.
    """

    def __init__(self, folder: Path, store: str) -> None:
        self.uri = f"http://127.0.0.1:{free_port()}"
        self._folder, self._store = folder, store
        self.artifacts = folder / "artifacts"
        self._process: Any = None

    def start(self) -> None:
        words = ["server", "--host", "127.0.0.1", "--port", self.uri.rpartition(":")[2], "--workers", "1"]
        words += ["--backend-store-uri", self._store, "--artifacts-destination", str(self.artifacts)]
        log = self._folder / "log"
        self._process = FORKS.Process(target=_mlflow, args=(words, self._folder, log))
        self._process.start()
        self._wait_until_it_answers(self._process, log)

    @property
    def runs(self) -> bool:
        return self._process is not None

    def stop(self) -> None:
        """Kill the server, as in a crash."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # with the workers it started
            self._process.join()
            self._process = None

    def _wait_until_it_answers(self, process: Any, log: Path) -> None:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                assert process.is_alive(), log.read_text()
                time.sleep(0.5)
        pytest.fail(log.read_text())


def _mlflow(words: list[str], folder: Path, log: Path) -> None:
    """Run `mlflow WORDS` in this process."""
    os.setsid()
    become_command(folder, log, log, foreign=("MLFLOW_",), environment=SETTINGS)

    from mlflow import server
    from mlflow.cli import cli

    server._exec_cmd = _serve_here
    cli(words)


def _serve_here(command: list[str], *, extra_env: dict[str, str], **_: object) -> None:
    """Run the program of `mlflow server` in this process, since a new one would import all of MLflow again."""
    os.environ.update(extra_env)
    _, _, module, *arguments = command  # python -m uvicorn …
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")


@contextmanager
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """Run a server with all its files in a folder."""
    server = MlflowServer(folder, f"sqlite:///{folder}/server.db")
    try:
        server.start()
        yield server
    finally:
        server.stop()
