"""The content of a new MLflow run before training, in a real SQLite store."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import load_text

from mrqm.config import Config
from pipelines.tracking.create_run import create_run

from ..repository import git

TinyConfig = Callable[..., Config]

pytestmark = pytest.mark.slow


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """User's repository as the working directory."""
    (tmp_path / "train.sh").write_text("mrqm train\n")
    git(tmp_path, "init", "--quiet", "--initial-branch=flights")
    git(tmp_path, "add", "train.sh")
    git(tmp_path, "commit", "--quiet", "-m", "Begin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_code_and_environment_are_in_the_run(
    own_code: Path, tiny_config: TinyConfig, client: MlflowClient, registry_store: str
) -> None:
    (own_code / "train.sh").write_text("mrqm train -c best.yaml\n")
    run = client.get_run(create_run(client, "0", tiny_config(), None, {}))
    assert run.data.tags["mlflow.source.git.commit"] == git(own_code, "rev-parse", "HEAD")
    assert run.data.tags["mlflow.source.git.branch"] == "flights"
    assert run.data.tags["mlflow.user"] == getpass.getuser()
    assert "+mrqm train -c best.yaml" in load_text(f"{run.info.artifact_uri}/code/diff.patch")
    environment = json.loads(load_text(f"{run.info.artifact_uri}/environment/environment.json"))
    assert environment["packages"].keys() >= {"mrqm", "torch", "ray", "mlflow"}
    assert "\nmlflow==" in load_text(f"{run.info.artifact_uri}/environment/requirements.txt")


def test_unchanged_code_has_no_patch(own_code: Path, tiny_config: TinyConfig, client: MlflowClient) -> None:
    run_id = create_run(client, "0", tiny_config(), None, {})
    assert "code.changed" not in client.get_run(run_id).data.tags
    assert not client.list_artifacts(run_id, "code")
