from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mrqm.data import build_dataset
from mrqm.data.images.resizing import fitted_size, scaled_size
from mrqm.inference.detector import Detector


@pytest.mark.parametrize(
    ("native", "size"),
    [
        ((765, 1360), (750, 1333)),  # VisDrone's usual sizes, shrunk or enlarged until the longer side is full
        ((540, 960), (750, 1333)),
        ((1078, 1916), (750, 1333)),
        ((1500, 2000), (800, 1067)),  # here the shorter side decides
        ((480, 640), (800, 1067)),
        ((800, 800), (800, 800)),
        ((640, 480), (1067, 800)),
        ((10, 4000), (3, 1333)),
        ((1, 9000), (1, 1333)),
    ],
)
def test_images_are_fitted_as_mmdetection_fits_them(native: tuple[int, int], size: tuple[int, int]) -> None:
    assert fitted_size(native, 800, 1333) == size


def test_a_fitted_image_keeps_its_ratio_within_both_bounds_and_reaches_one() -> None:
    rng = np.random.default_rng(0)
    for height, width, short, more in rng.integers(50, 3000, (500, 4)).tolist():
        longest = short + more
        fitted = fitted_size((height, width), short, longest)
        assert min(fitted) == short or max(fitted) == longest
        assert min(fitted) <= short and max(fitted) <= longest
        factor = max(fitted) / max(height, width)
        assert fitted == pytest.approx((height * factor, width * factor), abs=1)


def test_scaling_only_shrinks_further_to_the_longest_side() -> None:
    assert scaled_size((765, 1361), 0.5) == (382, 680)
    assert scaled_size((100, 200), 1.0, 500) == (100, 200)
    assert scaled_size((1000, 2000), 1.0, 500) == (250, 500)


@pytest.mark.parametrize("side", [60, 96, 150])  # of the images: enlarged, kept, shrunk
@pytest.mark.parametrize("tile", ["null", "{size: 64, overlap: 16}"])
def test_training_evaluation_and_prediction_see_images_of_the_same_size(
    side: int, tile: str, tiny_config: Any, make_model: Any, squares: Callable[..., Path]
) -> None:
    root = squares(side=side)
    config = tiny_config(
        f"data.root={root}", "data.classes=[a, b]", "data.resize={short_side: 96, max_side: 128}", f"data.tile={tile}"
    )
    detector = Detector(make_model(config), config, torch.device("cpu"))
    opened = detector.open(root / "val" / "images" / "0.png")
    assert opened.scaled_size == (96, 96)
    for split in ("train", "val"):
        data = build_dataset(config, split)
        own = [index for index, item in enumerate(data.items) if item.record.path.name == "0.png"]
        assert {data.items[index].size for index in own} == {(96, 96)}
        windows = [data.items[index].window for index in own]
        assert windows == opened.windows if split == "val" else set(windows) <= set(opened.windows)
    for index, window in zip(own, opened.windows, strict=True):
        sample = data[index]
        assert sample is not None
        image, target = sample
        cut = opened.cut(window)
        assert image.shape == cut.shape
        assert (image.float() - cut.float()).abs().mean() < 2  # resized as a whole, and window by window
        scale = 96 / side
        sides = target["boxes"][:, 2:] * torch.tensor([window.width, window.height])
        assert (sides <= 20 * scale + 1).all()


def test_evaluation_of_whole_images_resizes_them_as_tiles_were(tiny_config: Any, make_model: Any) -> None:
    resize, tile = "data.resize={short_side: 96, max_side: 128}", "data.tile={size: 64, overlap: 16}"
    config = tiny_config(resize, tile, "evaluation.view=full", "data.classes=[a, b]")
    opened = Detector(make_model(config), config, torch.device("cpu")).open(
        Image.fromarray(np.zeros((480, 1280, 3), dtype=np.uint8))
    )
    assert opened.scaled_size == (48, 128)
    assert [tuple(window) for window in opened.windows] == [(0, 0, 128, 48)]
