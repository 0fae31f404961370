"""Preflight checks of a data set, beyond its being readable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mrqm.check import Check
from mrqm.config import Config
from mrqm.data import build_dataset
from mrqm.data.analysis.checks import check_split

TinyConfig = Callable[..., Config]
Squares = Callable[..., Path]


@pytest.fixture
def check_train(tiny_config: TinyConfig, squares: Squares) -> Callable[..., dict[str, Check]]:
    """Check the training split after changing its annotations; returns the checks by name."""
    root = squares(images=3, objects=4)

    def check_train(*overrides: str, extra: str = "") -> dict[str, Check]:
        for path in (root / "train" / "annotations").iterdir():
            path.write_text(path.read_text() + extra)
        config = tiny_config(f"data.root={root}", *overrides)
        return {found.name: found for found in check_split(config, "train", build_dataset(config, "train"))}

    return check_train


def test_sound_data_is_described(check_train: Callable[..., dict[str, Check]]) -> None:
    found = check_train("data.classes=[pedestrian, people]")
    assert found.keys() == {"data train"}
    assert found["data train"].status == "ok"
    assert "3 images" in found["data train"].finding
    assert "median 4, most 4; 100% under 32 px" in found["data train"].finding


def test_classes_without_an_object_are_named(check_train: Callable[..., dict[str, Check]]) -> None:
    found = check_train()["data train classes"]
    assert found.status == "warning"
    assert "bicycle, car, van, truck, tricycle …" in found.finding


def test_repairs_are_counted_and_the_command_that_names_them_is_given(
    check_train: Callable[..., dict[str, Check]],
) -> None:
    found = check_train("data.classes=[pedestrian, people]", extra="\n80,80,500,500,1,1,0,0")["data train repairs"]
    assert found.status == "warning"
    assert found.finding == "3 boxes clipped to the image"
    assert "mrqm prepare visdrone" in found.remedy


def test_more_objects_than_queries_are_too_many(check_train: Callable[..., dict[str, Check]]) -> None:
    found = check_train("data.classes=[pedestrian, people]", "model.num_queries=3")["data train objects"]
    assert "up to 4 objects in one image, more than model.num_queries=3" in found.finding


def test_fewer_images_than_a_step_takes_are_an_error(check_train: Callable[..., dict[str, Check]]) -> None:
    found = check_train("data.classes=[pedestrian, people]", "train.batch_size=8")["data train"]
    assert (found.status, found.remedy) == ("error", "give more data or lower train.batch_size")
