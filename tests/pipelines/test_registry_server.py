"""The registry of a plain MLflow server, from a machine that has nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mrqm.config import Config
from mrqm.detector import load

from .registered import free_port, refuse, register_run, succeed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("away_from_the_run")]

TinyConfig = Callable[..., Config]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A plain `mlflow server`, which alone knows where its database and its artifacts are."""
    folder, uri = tmp_path_factory.mktemp("server"), f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", uri.rpartition(":")[2]]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | settings
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_it_answers(uri, process, folder / "log")
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with the workers it started
        process.wait()


def wait_until_it_answers(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.5)
    pytest.fail(log.read_text())


def test_everything_works_against_a_server(
    server: str, spotter_checkpoint: Path, tiny_config: TinyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    for name in ("one", "two"):
        register_run(tiny_config(f"output={tmp_path}/runs", f"name={name}"), spotter_checkpoint)
    shutil.rmtree(tmp_path / "runs")
    succeed("promote", "spotter/1")
    assert "instead of version 1" in succeed("promote", "spotter/2")
    assert "champion" in succeed("list")
    assert f"{server}/#/experiments/" in succeed("show", "spotter@champion")
    assert "+0.000" in succeed("compare", "spotter/1", "spotter/2")
    assert "version 1 is champion again" in succeed("rollback", "spotter")
    succeed("download", "spotter@champion", "--out", "champion")
    assert load(tmp_path / "champion").classes == ("a", "b", "c")
    assert "no alias 'beta'; it has champion (version 1)" in refuse("show", "spotter@beta")
    assert "no model 'nobody'" in refuse("show", "nobody")
    assert "first champion" in refuse("rollback", "spotter")
