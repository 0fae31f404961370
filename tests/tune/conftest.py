"""Data and a configuration for sweeps with real training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mrqm.config import Config
from mrqm.data.synthetic import SCENE_CLASSES, write_scenes

from ..pipelines.servers.mlflow_server import MlflowServer, mlflow_server

TinyConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_config: TinyConfig) -> Path:
    """A folder with data and `tiny.yaml`."""
    folder = tmp_path_factory.mktemp("sweeps")
    write_scenes(folder / "data", train=8, val=3, size=(96, 96))
    classes = f"data.classes=[{','.join(SCENE_CLASSES)}]"
    config = tiny_config("data.root=data", classes, "data.max_side=64", "tracking.registered_model_name=swept")
    (folder / "tiny.yaml").write_text(config.to_yaml())
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    """A plain MLflow server that can be stopped and started again."""
    with mlflow_server(tmp_path) as server:
        yield server
