"""A plain `mlflow server`, which alone knows where its database and its artifacts are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .registered import free_port

SETTINGS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


class MlflowServer:
    """A server on loopback that can be stopped and started again, at the same address and with the same data.

    Args:
        folder: for its artifacts and its log.
        store: URI of its database.
    """

    def __init__(self, folder: Path, store: str) -> None:
        self.uri = f"http://127.0.0.1:{free_port()}"
        self._folder, self._store = folder, store
        self.artifacts = folder / "artifacts"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", self.uri.rpartition(":")[2], "--workers", "1", "--backend-store-uri", self._store]
        command += ["--artifacts-destination", str(self.artifacts)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | SETTINGS
        log = self._folder / "log"
        with log.open("a") as output:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        self._wait_until_it_answers(self._process, log)

    @property
    def runs(self) -> bool:
        return self._process is not None

    def stop(self) -> None:
        """At once, as a crash would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # with the workers it started
            self._process.wait()
            self._process = None

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes], log: Path) -> None:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                assert process.poll() is None, log.read_text()
                time.sleep(0.5)
        pytest.fail(log.read_text())


@contextmanager
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """A server that keeps all it has in a folder."""
    server = MlflowServer(folder, f"sqlite:///{folder}/server.db")
    try:
        server.start()
        yield server
    finally:
        server.stop()
