"""The data sets of a run in MLflow."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mrqm.config import Config
from mrqm.data import DetectionDataset, build_dataset
from mrqm.data.synthetic import SCENE_CLASSES, write_scenes
from pipelines.tracking.dataset_inputs import note_datasets
from pipelines.tracking.event_log import DatasetUsed


class Notes:
    """Stand-in for `Tracker` that records data sets, without a store."""

    def __init__(self) -> None:
        self.used = list[DatasetUsed]()

    def log_dataset(self, used: DatasetUsed) -> None:
        self.used.append(used)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., Config]) -> Config:
    root = tmp_path_factory.mktemp("flights") / "data"
    write_scenes(root, train=3, val=2, size=(128, 128))
    return tiny_config(f"data.root={root}", f"data.classes=[{','.join(SCENE_CLASSES)}]")


@pytest.fixture(scope="module")
def datasets(config: Config) -> dict[str, DetectionDataset]:
    return {"train": build_dataset(config, "train"), "val": build_dataset(config, "val")}


def test_both_splits_are_noted_with_their_digests(config: Config, datasets: dict[str, DetectionDataset]) -> None:
    notes = Notes()
    note_datasets(notes, config, datasets, {"data.val": "ab12", "data.train": "cd34"})
    training, validation = notes.used
    assert (validation.context, validation.digest) == ("validation", "ab12")
    assert (training.context, training.digest) == ("training", "cd34")
    assert training.name == f"{config.data.root.name}/train"
    assert training.counts["images"] == 3
    assert training.source == str(config.data.root / "train")
