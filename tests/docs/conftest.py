"""A folder with all that the documents' commands name, tiny, and a store with their models."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from mlflow import MlflowClient
from PIL import Image

from mrqm.checkpoint.folder import save_checkpoint
from mrqm.config import Config
from mrqm.data.formats.soda_d import SODA_CLASSES
from mrqm.data.formats.visdrone import read_visdrone
from mrqm.data.synthetic import write_scenes
from mrqm.engine.divergence import Divergence, save_divergence

from ..forked_workers import forked_workers
from ..pages import ROOT
from ..pipelines.registered import register_run

TinyConfig = Callable[..., Config]
CHECKPOINTS = ("runs/demo/epoch_0012", "runs/city/epoch_0012")
LIKE_VISDRONE = (
    "data.train=VisDrone2019-DET-train", "data.val=VisDrone2019-DET-val", "data.tile={size: 160, overlap: 40}",
)  # fmt: skip
KEPT_STEP = "runs/demo/nonfinite_steps/step_000123/rank_0"
VERSIONS = 7
"""Of the registered model; the third is the champion."""


@pytest.fixture(scope="module")
def large_cluster() -> Iterator[None]:
    """A Ray session that takes this machine for one with eight GPUs."""
    with forked_workers(), pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(
            address="local", num_cpus=32, num_gpus=8, include_dashboard=False, log_to_driver=False,
            logging_level="ERROR",
        )  # fmt: skip
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def named_files(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_config: TinyConfig,
    make_model: Any,
    make_target: Any,
    backbone_weights: Path,
) -> Path:
    """What a reader of the documents has: the project, data sets, images, and runs that have been trained."""
    folder = tmp_path_factory.mktemp("documents")
    for name in ("configs", "tune/spaces", "cluster"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "secrets", "state"))
    for name in (".gitignore", "Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    write_scenes(folder / "data" / "demo", train=8, val=2, size=(160, 160))
    shutil.copytree(folder / "data" / "demo", folder / "data" / "demo-sweep")
    _write_data_sets(folder)
    shutil.copy(backbone_weights, folder / "WEIGHTS.safetensors")
    config = tiny_config("data.root=FOLDER", "data.classes=[pedestrian, people, bicycle, car]", *LIKE_VISDRONE)
    weights = make_model(config).state_dict()
    for name in CHECKPOINTS:
        save_checkpoint(folder / name, weights, {}, config, {"coco/AP": 0.3})
    _write_kept_step(folder, make_model(config), config, make_target([(10, 10, 30, 30)]))
    return folder


def _write_data_sets(folder: Path) -> None:
    """The same scenes in the layouts of VisDrone, COCO, SODA-D and YOLO, and some as images."""
    demo, images = folder / "data" / "demo", sorted((folder / "data" / "demo").glob("*/images/*.jpg"))
    for root in (folder / "FOLDER", folder / "data" / "VisDrone"):
        for split in ("train", "val"):
            shutil.copytree(demo / split, root / f"VisDrone2019-DET-{split}")
    _write_coco(demo / "train", folder / "data" / "mine" / "train")
    _write_coco(demo / "val", folder / "data" / "mine" / "valid")
    soda = folder / "data" / "SODA-D"
    for part in ("Annotations", "Images"):
        (soda / part).mkdir(parents=True)
    shutil.copy(images[0], soda / "Images" / "a.jpg")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 160, "width": 160}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "ignore": 0}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(SODA_CLASSES, 1)],
    }
    (soda / "Annotations" / "train.json").write_text(json.dumps(content))
    for part in ("images", "labels"):
        (folder / "data" / "boats" / "train" / part).mkdir(parents=True)
    shutil.copy(images[0], folder / "data" / "boats" / "train" / "images")
    (folder / "data" / "boats" / "train" / "labels" / f"{images[0].stem}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "data" / "boats" / "data.yaml").write_text("names: [boat]\n")
    detection = {"image_id": 0, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.5}
    (folder / "results.json").write_text(json.dumps([detection]))
    (folder / "flight").mkdir()
    for image in images[:2]:
        shutil.copy(image, folder / "flight")
    for name in ("street.jpg", "window.jpg", "field.png", "city.tif"):
        Image.open(images[0]).save(folder / name)


def _write_coco(source: Path, target: Path) -> None:
    """A split as annotation tools export COCO: the json beside the images."""
    shutil.copytree(source / "images", target)
    records = read_visdrone(source, ("pedestrian", "cyclist", "car", "truck")).records
    boxes = [(number, *box) for number, record in enumerate(records) for box in record.boxes.tolist()]
    content = {
        "images": [
            {"id": number, "file_name": record.path.name, "height": record.size[0], "width": record.size[1]}
            for number, record in enumerate(records)
        ],
        "annotations": [
            {"id": number, "image_id": image, "category_id": 1, "bbox": [left, top, right - left, bottom - top]}
            for number, (image, left, top, right, bottom) in enumerate(boxes, 1)
        ],
        "categories": [{"id": 1, "name": "object"}],
    }
    (target / "_annotations.coco.json").write_text(json.dumps(content))


def _write_kept_step(folder: Path, model: torch.nn.Module, config: Config, target: dict[str, torch.Tensor]) -> None:
    """A training step that ended without a loss, as a training keeps it."""
    batch = (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), None, [target])
    divergence = Divergence(1, 123, 0, noise_seed=7, losses={"loss": math.nan}, not_finite=("loss",))
    save_divergence(folder / KEPT_STEP, model, [batch], config, divergence)


@pytest.fixture(scope="module")
def store(named_files: Path, tiny_config: TinyConfig, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with the versions of the model `mrqm`."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        register_run(tiny_config(f"output_dir={folder}/runs"), named_files / CHECKPOINTS[0], "mrqm")
    client = MlflowClient(uri)
    first = client.get_model_version("mrqm", "1")
    for number in range(2, VERSIONS + 1):
        tags = first.tags | {"coco/AP": f"{0.3 + number / 100:.4f}"}
        client.create_model_version("mrqm", first.source, first.run_id, tags=tags)
    client.set_registered_model_alias("mrqm", "champion", "3")
    return uri
