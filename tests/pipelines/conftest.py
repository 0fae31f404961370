"""Fixtures: a Ray session, a working directory for trainings, and a store with registered models."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from mrqm.checkpoint.folder import save_checkpoint
from mrqm.config import Config
from mrqm.data.synthetic import SCENE_CLASSES, write_scenes
from pipelines.compute.session import ray_session

from ..forked_workers import forked_workers
from .registered import register_run
from .servers.mlflow_server import MlflowServer, mlflow_server
from .workplace import Workplace

TinyConfig = Callable[..., Config]
AddVersion = Callable[..., str]
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """A Ray session shared by the tests of a file."""
    with forked_workers(), pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with ray_session():
            yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A plain `mlflow server`."""
    with mlflow_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def mortal_server(server: MlflowServer) -> Iterator[MlflowServer]:
    """The server for a test that stops it; it is restarted for the next test."""
    yield server
    if not server.runs:
        server.start()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, tiny_config: TinyConfig) -> Workplace:
    folder = tmp_path_factory.mktemp("workplace")
    write_scenes(folder / "data", train=8, val=3, size=(96, 96))
    config = tiny_config(
        "data.root=data",
        f"data.classes=[{','.join(SCENE_CLASSES)}]",
        "data.max_side=64",
        "scaling.num_workers=2",
        "tracking.registered_model_name=tiny-detector",
    )
    workplace = Workplace(folder)
    workplace.config_file.write_text(config.to_yaml())
    return workplace


@pytest.fixture
def inside(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """The workplace as the working directory, without a cluster or store from the environment."""
    monkeypatch.chdir(workplace.folder)
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return workplace


@pytest.fixture(scope="session")
def spotter_checkpoint(tiny_config: TinyConfig, make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config("data.classes=[a, b, c]")
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    save_checkpoint(folder, make_model(config).state_dict(), {}, config, {})
    return folder


@pytest.fixture(scope="session")
def registry_database(
    spotter_checkpoint: Path, tiny_config: TinyConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Database with the model `spotter`, which has one version."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        register_run(tiny_config(f"output_dir={folder}/runs", "name=flight-7"), spotter_checkpoint)
    return folder / "mlflow.db"


@pytest.fixture(scope="module")
def registry_store(registry_database: Path) -> str:
    """URI of a copy of the database with `spotter`, which the tests of a file may change; the run is beside it."""
    copy = shutil.copy(registry_database, registry_database.with_name(f"{next(NUMBERS)}.db"))
    return f"sqlite:///{copy}"


@pytest.fixture
def away_from_the_run(registry_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Working directory without any file of the run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry_store)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def client(registry_store: str) -> MlflowClient:
    mlflow.set_tracking_uri(registry_store)  # MLflow resolves a version's source there; another test may have set it
    return MlflowClient(registry_store)


@pytest.fixture
def add_version(client: MlflowClient) -> AddVersion:
    """Function that registers the checkpoint again, in the test's own model, with other tags; returns NAME/VERSION."""
    name = f"model-{next(NUMBERS)}"
    client.create_registered_model(name)
    original = client.get_model_version("spotter", "1")

    def add(ap: float | None = None, source: str | None = None, **tags: str | None) -> str:
        wanted = original.tags | ({} if ap is None else {"coco/AP": repr(ap)}) | tags
        kept = {key: value for key, value in wanted.items() if value is not None}
        made = client.create_model_version(name, source or original.source, original.run_id, tags=kept)
        return f"{name}/{made.version}"

    return add


@pytest.fixture
def model_files(registry_store: str, tmp_path: Path) -> Path:
    """Copy of the files of `spotter`, for changes."""
    mlflow.set_tracking_uri(registry_store)
    path = mlflow.artifacts.download_artifacts(artifact_uri="models:/spotter/1", dst_path=str(tmp_path / "files"))
    return Path(path)
