"""Which data a run says it used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mrqm.config import Config
from mrqm.data import DetectionDataset, build_dataset
from mrqm.data.digest import data_digest
from mrqm.data.scenes import SCENE_CLASSES, write_scenes
from pipelines.dataset_inputs import datasets_noted
from pipelines.journal import DatasetUsed


class Notes:
    """What `Tracker` does with data, without a store."""

    def __init__(self, *known: str) -> None:
        self.known, self.used = known, list[DatasetUsed]()

    def knows_dataset(self, context: str) -> bool:
        return context in self.known

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
    with datasets_noted(notes, config, datasets, "ab12"):
        pass
    validation, training = notes.used
    assert (validation.context, validation.digest) == ("validation", "ab12")
    assert (training.context, training.name) == ("training", f"{config.data.root.name}/train")
    assert training.digest == data_digest(datasets["train"].annotations)
    assert training.counts["images"] == 3
    assert training.source == str(config.data.root / "train")


def test_known_training_data_is_not_read_again(config: Config, datasets: dict[str, DetectionDataset]) -> None:
    notes = Notes("training")
    with datasets_noted(notes, config, datasets, "ab12"):
        pass
    assert [used.context for used in notes.used] == ["validation"]


def test_an_image_that_vanished_ends_no_training(
    config: Config, tiny_config: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_scenes(tmp_path / "data", train=1, val=1, size=(128, 128))
    gone = tiny_config(f"data.root={tmp_path}/data", f"data.classes=[{','.join(SCENE_CLASSES)}]")
    datasets = {"train": build_dataset(gone, "train"), "val": build_dataset(gone, "val")}
    next((tmp_path / "data" / "train" / "images").iterdir()).unlink()
    notes = Notes()
    with datasets_noted(notes, gone, datasets, "ab12"):
        pass
    assert [used.context for used in notes.used] == ["validation"]
    assert "the training data has no digest" in caplog.text
