"""Inference on annotated images: tiles as in training, whole images window by window or at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mrqm.config import Config
from mrqm.data import DataError, build_dataset, build_loader
from mrqm.data.images.tiling import clip_to_window, grid, visible_share
from mrqm.engine.loops import evaluate
from mrqm.evaluation import build_protocol, score_under
from mrqm.inference.dataset_inference import DatasetPredictions, count_views, predict_dataset
from mrqm.inference.detector import Detector
from mrqm.inference.tile_merging import merge
from mrqm.structures.annotations import ImageRecord, xyxy_to_xywh
from mrqm.structures.detections import Detections, WindowDetections
from mrqm.structures.ground_truth import make_ground_truth
from mrqm.structures.metric import PROTOCOLS

CPU = torch.device("cpu")
LEFT, RIGHT = "20,60,12,10,1,2,0,0", "50,10,20,14,1,2,0,0"  # the second lies in two tiles of 64 px


def write(folder: Path, images: dict[str, str]) -> Path:
    """Write black images of 96×128 px with a white box for every row, in VisDrone's layout, as `val`."""
    for part in ("images", "annotations"):
        (folder / "val" / part).mkdir(parents=True)
    for name, text in images.items():
        pixels = np.zeros((96, 128, 3), np.uint8)
        for row in text.splitlines():
            left, top, width, height = (int(value) for value in row.split(",")[:4])
            pixels[top : top + height, left : left + width] = 255
        Image.fromarray(pixels).save(folder / "val" / "images" / f"{name}.png")
        (folder / "val" / "annotations" / f"{name}.txt").write_text(text)
    return folder


@pytest.fixture
def make_config(tiny_config: Any, tmp_path: Path) -> Any:
    def build(*overrides: str) -> Config:
        tile = "data.tile={size: 64, overlap: 32, min_area_ratio: 0.4}"
        return tiny_config(f"data.root={tmp_path}", "data.classes=[a, b]", tile, *overrides)

    return build


def score(found: DatasetPredictions, config: Config) -> dict[str, float]:
    return build_protocol("coco", config.evaluation).score(found.records, found.detections, found.classes)


def test_tiles_give_the_figures_of_training(make_config: Any, finds_white: nn.Module, tmp_path: Path) -> None:
    config, root = make_config(), write(tmp_path, {"a": LEFT, "b": f"{RIGHT}\n{LEFT}", "c": ""})
    assert root
    dataset = build_dataset(config, "val")
    trained = evaluate(finds_white, build_loader(config, dataset, training=False), config, CPU)
    scored = score(predict_dataset(Detector(finds_white, config, CPU), dataset, "tiles"), config)  # type: ignore[arg-type]
    assert 0 < trained["AP"] < 1
    assert repr(trained) == repr(scored)


@pytest.mark.parametrize("view", ["sliced", "full"])
def test_whole_images_are_scored_in_native_px(
    make_config: Any, finds_white: nn.Module, tmp_path: Path, view: Any
) -> None:
    write(tmp_path, {"a": LEFT, "b": RIGHT})
    config = make_config("data.scale=2", "data.tile.size=128", "data.tile.overlap=64")
    dataset = build_dataset(config, "val")
    seen: list[None] = []
    found = predict_dataset(Detector(finds_white, config, CPU), dataset, view, lambda: seen.append(None))  # type: ignore[arg-type]
    assert [record.path.stem for record in found.records] == ["a", "b"]
    assert len(seen) == count_views(dataset, view) == 2
    best = found.detections[1]
    np.testing.assert_allclose(best.boxes_xywh[0], [50, 10, 20, 14], atol=1)
    assert score(found, config)["AP50"] == pytest.approx(1)
    assert found.read_image(0).shape[0] == 3


def test_an_image_that_does_not_decode_is_left_out_where_that_is_tolerated(
    make_config: Any, finds_white: nn.Module, tmp_path: Path
) -> None:
    write(tmp_path, {"a": LEFT, "b": RIGHT})
    broken = tmp_path / "val" / "images" / "a.png"
    broken.write_bytes(broken.read_bytes()[:120])
    detector = Detector(finds_white, make_config("data.max_unreadable=1"), CPU)  # type: ignore[arg-type]
    found = predict_dataset(detector, build_dataset(detector.config, "val"), "sliced")
    assert [record.path.stem for record in found.records] == ["b"]
    assert len(found.detections) == 1
    with pytest.raises(DataError, match=r"a\.png.*max_unreadable=0"):
        predict_dataset(detector, build_dataset(make_config(), "val"), "sliced")


def test_ignored_regions_are_black_where_training_has_them_black(
    make_config: Any, finds_white: nn.Module, tmp_path: Path
) -> None:
    write(tmp_path, {"a": f"{LEFT}\n90,70,30,20,0,0,0,0"})

    def count(*overrides: str) -> int:
        config = make_config(*overrides)
        dataset = build_dataset(config, "val")
        found = predict_dataset(Detector(finds_white, config, CPU), dataset, "sliced")  # type: ignore[arg-type]
        return int((found.detections[0].scores > 0.5).sum())

    assert (count(), count("data.tile.blackout_ignored=true")) == (2, 1)


def test_perfect_detections_split_over_windows_score_one_under_every_protocol() -> None:
    rng = np.random.default_rng(0)
    cells = rng.choice(20 * 20, 60, replace=False)
    sides = rng.integers(6, 30, (60, 2))
    boxes = np.concatenate([np.stack([cells % 20, cells // 20], 1) * 32, sides], 1).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    truth = make_ground_truth(xyxy_to_xywh(boxes), rng.integers(0, 2, 60))
    record = ImageRecord(Path("a.jpg"), 0, (640, 640), truth)
    found = []
    for window in grid(record.size, 160, 60):
        share = visible_share(boxes, window)
        seen = share > 0.1  # what is cut off is found too, a little less surely
        inside = torch.from_numpy(clip_to_window(boxes[seen].astype(np.float64), window)).float()
        detections = {"boxes": inside, "scores": torch.from_numpy(0.5 + 0.4 * share[seen]).float()}
        found.append(WindowDetections(window, detections | {"labels": torch.from_numpy(record.labels[seen])}))
    merged = Detections.from_tensors(merge(found))
    assert sum(len(part.detections["scores"]) for part in found) > len(merged.scores) == 60
    protocols = [build_protocol(name, Config().evaluation) for name in PROTOCOLS]
    scores = score_under(protocols, [record], [merged], ("a", "b"))
    assert [scores[f"{protocol.name}/AP"] for protocol in protocols] == pytest.approx([1, 1, 1, 1])
