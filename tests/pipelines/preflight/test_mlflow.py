"""The plan's checks of MLflow stores, which leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from mrqm.check import Check
from mrqm.config import Config
from pipelines.preflight.mlflow import check_mlflow

from ..registered import free_port
from ..servers.mlflow_server import MlflowServer

TinyConfig = Callable[..., Config]

pytestmark = pytest.mark.slow


def found(config: Config) -> dict[str, Check]:
    return {row.name: row for row in check_mlflow(config)}


def models(client: MlflowClient) -> set[str]:
    return {model.name for model in client.search_registered_models()}


def litter(client: MlflowClient, experiment: str, artifacts: Path) -> list[object]:
    """List all content except the experiment itself and the registered models of other tests."""
    there = client.get_experiment(experiment)
    runs = client.search_runs([experiment], run_view_type=ViewType.ALL)
    files = [path for path in artifacts.rglob("*") if path.is_file()]
    return [*runs, *files, *(key for key in there.tags if "mrqm" in key)]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_new_database_is_not_made(tiny_config: TinyConfig, tmp_path: Path) -> None:
    rows = found(tiny_config(f"tracking.uri=sqlite:///{tmp_path}/new/mlflow.db"))
    assert [row.status for row in rows.values()] == ["ok"]
    assert "will be created" in rows["mlflow"].finding
    assert list(tmp_path.iterdir()) == []


def test_a_server_is_tried_and_left_as_it_was(tiny_config: TinyConfig, server: MlflowServer, tmp_path: Path) -> None:
    client = MlflowClient(server.uri)
    experiment, before = client.create_experiment("planned"), models(client)
    rows = found(tiny_config(f"tracking.uri={server.uri}", "tracking.experiment=planned"))
    assert rows.keys() == {"mlflow", "mlflow runs", "mlflow artifacts", "mlflow registry"}
    assert {row.status for row in rows.values()} == {"ok"}, rows
    assert litter(client, experiment, server.artifacts / experiment) == []
    assert models(client) == before


def test_an_experiment_that_is_not_there_is_not_made(tiny_config: TinyConfig, server: MlflowServer) -> None:
    rows = found(tiny_config(f"tracking.uri={server.uri}", "tracking.experiment=absent"))
    assert "experiment absent will be created" in rows["mlflow"].finding
    assert MlflowClient(server.uri).get_experiment_by_name("absent") is None


def test_a_model_that_is_there_keeps_its_tags(tiny_config: TinyConfig, server: MlflowServer) -> None:
    client = MlflowClient(server.uri)
    client.create_registered_model("kept", tags={"a": "b"})
    rows = found(tiny_config(f"tracking.uri={server.uri}", "tracking.registered_model_name=kept"))
    assert rows["mlflow registry"].finding == "versions of kept can be created"
    assert client.get_registered_model("kept").tags == {"a": "b"}
    client.delete_registered_model("kept")


def test_a_deleted_experiment_is_an_error(tiny_config: TinyConfig, server: MlflowServer) -> None:
    client = MlflowClient(server.uri)
    client.delete_experiment(client.create_experiment("gone"))
    (row,) = found(tiny_config(f"tracking.uri={server.uri}", "tracking.experiment=gone")).values()
    assert row.status == "error"
    assert "is deleted" in row.finding


def test_artifacts_that_cannot_be_written_are_an_error(
    tiny_config: TinyConfig, server: MlflowServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    MlflowClient(server.uri).create_experiment("full", artifact_location=f"file://{tmp_path}/file/artifacts")
    rows = found(tiny_config(f"tracking.uri={server.uri}", "tracking.experiment=full"))
    assert rows["mlflow artifacts"].status == "error"
    assert rows["mlflow runs"].status == "ok"


def test_nobody_there_is_an_error_at_once(tiny_config: TinyConfig) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    (row,) = found(tiny_config(f"tracking.uri={uri}")).values()
    assert (row.status, row.finding) == ("error", f"MLflow at {uri} cannot be used: nothing listens there")
    assert row.remedy.startswith("start the server")
