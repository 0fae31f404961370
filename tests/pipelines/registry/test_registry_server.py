"""The registry of a plain MLflow server, from a machine that has nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mrqm.config import Config
from mrqm.inference.detector import load

from ..registered import refuse, register_run, succeed
from ..servers.mlflow_server import MlflowServer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("away_from_the_run")]

TinyConfig = Callable[..., Config]


def test_everything_works_against_a_server_and_its_password_is_nowhere_to_be_read(
    server: MlflowServer,
    spotter_checkpoint: Path,
    tiny_config: TinyConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("://", "://me:pA55-only-here@"))
    for name in ("one", "two"):
        register_run(tiny_config(f"output_dir={tmp_path}/runs", f"name={name}"), spotter_checkpoint)
    told = "".join(capfd.readouterr())
    assert "pA55-only-here" not in told
    files = [path for folder in (tmp_path, server.artifacts.parent) for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"pA55-only-here" in path.read_bytes()]
    shutil.rmtree(tmp_path / "runs")
    succeed("promote", "spotter/1")
    assert "instead of version 1" in succeed("promote", "spotter/2")
    assert "champion" in succeed("list")
    assert f"{server.uri}/#/runs/" in succeed("show", "spotter@champion")
    assert "+0.000" in succeed("compare", "spotter/1", "spotter/2")
    assert "version 1 is champion again" in succeed("rollback", "spotter")
    succeed("download", "spotter@champion", "--out", "champion")
    assert load(tmp_path / "champion").classes == ("a", "b", "c")
    assert "no alias 'beta'; it has champion (version 1)" in refuse("show", "spotter@beta")
    assert "no model 'nobody'" in refuse("show", "nobody")
    assert "first champion" in refuse("rollback", "spotter")
