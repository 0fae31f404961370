"""The client of MLflow on a real store: listings are whole, and no writer lets a secret pass."""

from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Param, RunTag

import pipelines
import tune
from pipelines.tracking import client as mlflow_client
from pipelines.tracking.client import Client, equals

SECRET = "hunter2"
LEAK = f"postgresql://me:{SECRET}@host/db, s3://bucket/x?session_token={SECRET}"
CODE = [path for package in (pipelines, tune) for path in sorted(Path(package.__path__[0]).glob("*.py"))]
ONE_CLIENT = Path(mlflow_client.__file__)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with seven runs, models, versions and experiments."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    client = Client(f"sqlite:///{path}")
    experiment = client.create_experiment("full", (path.parent / "mlruns").as_uri())
    for number in range(7):
        client.create_run(experiment, f"run-{number}", {"number": str(number)})
        client.create_experiment(f"experiment-{number}")
        client.create_registered_model(f"model-{number}")
        client.create_model_version("model-0", "file:///nowhere")
    return path


@pytest.fixture
def client(store: Path) -> Client:
    return Client(f"sqlite:///{store}")


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_listings_are_whole_whatever_a_page_holds(client: Client, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_client, "PAGE", size)
    full = client.get_experiment_by_name("full").experiment_id
    runs = client.runs([full], "attributes.status = 'RUNNING'", ["attributes.start_time ASC"])
    assert [run.info.run_name for run in runs] == [f"run-{number}" for number in range(7)]
    assert {version.version for version in client.versions(equals("name", "model-0"))} == set(range(1, 8))
    assert {f"model-{number}" for number in range(7)} <= {model.name for model in client.models()}
    assert {f"experiment-{number}" for number in range(7)} <= {found.name for found in client.experiments()}


@pytest.mark.slow
@settings(max_examples=40)
@given(name=st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/:"), min_size=1, max_size=30))
def test_a_model_is_found_by_any_name(store: Path, name: str) -> None:
    client = Client(f"sqlite:///{store}")
    try:
        if client.model(name) is None:
            client.create_registered_model(name)
    except mlflow.MlflowException as error:
        assert "name" in error.message  # `..` and the like
        return
    client.create_model_version(name, "file:///nowhere")
    found = client.model(name)
    assert found is not None
    assert found.name == name
    assert name in {version.name for version in client.versions(equals("name", name))}


def writers(client: Client, run_id: str, folder: Path) -> dict[str, Callable[[], object]]:
    """List all calls by which this project sends text to MLflow, with a secret in each argument."""
    file = folder / "outcome.yaml"
    file.write_text(f"uri: {LEAK}\n")
    used = DatasetInput(Dataset(LEAK, "0", "local", LEAK, profile="{}"), [])
    return {
        "create_run": lambda: client.create_run("0", LEAK, {"tag": LEAK}),
        "log_batch": lambda: client.log_batch(run_id, params=[Param("p", LEAK)], tags=[RunTag("t", LEAK)]),
        "log_text": lambda: client.log_text(run_id, LEAK, "text.txt"),
        "log_artifact": lambda: client.log_artifact(run_id, file, "folder"),
        "log_inputs": lambda: client.log_inputs(run_id, [used]),
        "create_registered_model": lambda: client.create_registered_model("told", LEAK),
        "create_model_version": lambda: client.create_model_version("told", "file:///x", run_id, {"tag": LEAK}, LEAK),
        "set_registered_model_tag": lambda: client.set_registered_model_tag("told", "tag", LEAK),
    }


WITHOUT_TEXTS = {
    "create_experiment", "update_run", "set_terminated", "set_registered_model_alias", "set_experiment_tag"
}  # fmt: skip
"""Writers whose arguments are ids, states, checked names and constants."""


@pytest.mark.slow
def test_no_writer_lets_a_secret_pass(client: Client, store: Path, tmp_path: Path) -> None:
    experiment = client.create_experiment("told", (tmp_path / "artifacts").as_uri())
    run_id = client.create_run(experiment, "run", {}).info.run_id
    for write in writers(client, run_id, tmp_path).values():
        write()
    (tmp_path / "outcome.yaml").unlink()
    rows = "\n".join(sqlite3.connect(store).iterdump())
    assert rows.count("postgresql://me:***@host/db, s3://bucket/x?session_token=***") >= 9
    assert SECRET not in rows
    files = [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"text.txt", "outcome.yaml"}
    assert not [path for path in files if SECRET in path.read_text()]


@pytest.mark.slow
def test_every_writer_that_is_used_is_tested_here(client: Client, tmp_path: Path) -> None:
    known = writers(client, "", tmp_path).keys() | WITHOUT_TEXTS
    calls = {
        node.func.attr
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    names = {name for name in dir(MlflowClient) if re.match("(log|set|create|update|rename|transition|link)_", name)}
    own = {"log_metrics", "log_dataset", "log_step"}  # of the tracker, whose journal the same client sends
    assert calls & names - own <= known


@pytest.mark.parametrize("path", [path for path in CODE if path != ONE_CLIENT], ids=lambda path: path.stem)
def test_no_module_goes_past_the_one_client(path: Path) -> None:
    text = path.read_text()
    assert not re.findall(r"\bMlflowClient\b|\.search_(?:runs|experiments|registered_models|model_versions)\b", text)
