"""The detector that comes with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

import mrqm
from mrqm.checkpoint.files import CONFIG, WEIGHTS
from mrqm.checkpoint.initialization import build_initial_model
from mrqm.checkpoint.lookup import STARTER_FOLDER, CheckpointError, find_checkpoint
from mrqm.config import load_config
from mrqm.data.synthetic.scene import make_scene

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))
STARTING = [path for path in CONFIGS if load_config(path).model.init == "starter"]


def test_it_is_small_and_names_no_place() -> None:
    assert (STARTER_FOLDER / WEIGHTS).stat().st_size < 8e6
    config = load_config(STARTER_FOLDER / CONFIG)
    assert not any(Path(str(path)).is_absolute() for path in (config.data.root, config.output_dir))
    assert not Path(config.model.backbone.weights).is_absolute()


def test_it_finds_the_objects_of_a_scene() -> None:
    scene = make_scene((320, 320), (99, 1, 0))
    boxes = torch.tensor([one.box for one in scene.objects]).float()
    boxes[:, 2:] += boxes[:, :2]
    found = mrqm.load("starter")(np.ascontiguousarray(scene.image))
    sure = found["boxes"][found["scores"] > 0.2]
    assert (box_iou(boxes, sure).amax(1) > 0.5).float().mean() > 0.5
    assert len(sure) < 2 * len(boxes)


@pytest.mark.parametrize("path", STARTING, ids=[path.stem for path in STARTING])
def test_recipes_that_start_from_it_take_over_all_but_classes_and_queries(path: Path) -> None:
    _, report = build_initial_model(load_config(path), ("pedestrian", "boat"))
    assert report is not None
    assert (report.matched, report.new) == (("pedestrian",), ("boat",))
    assert all("queries" in note for note in report.notes), report.notes


def test_a_folder_of_its_name_is_named_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("starter") == STARTER_FOLDER
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        find_checkpoint(tmp_path / "starter")
