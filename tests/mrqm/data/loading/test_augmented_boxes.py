"""Boxes of augmented samples against the pixels themselves: every object has a colour of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor
from torchvision.ops import box_convert

from mrqm.config import make_config
from mrqm.data import build_dataset

SIDE = 96
IMAGES = 5


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """Black images with objects and ignored regions, far from one another, whose red and green tell which they are."""
    rng = np.random.default_rng(0)
    for part in ("images", "annotations"):
        (tmp_path / "train" / part).mkdir(parents=True)
    for number in range(IMAGES):
        pixels, rows = np.zeros((SIDE, SIDE, 3), np.uint8), []
        for cell in range(9):
            width, height = rng.integers(5, 20, 2)
            left, top = 32 * (cell % 3) + rng.integers(3, 9), 32 * (cell // 3) + rng.integers(3, 9)
            pixels[top : top + height, left : left + width] = (100 + 10 * cell, 100 + 30 * number, 255)
            category = 0 if cell == 4 else 1 + cell % 3
            rows.append(f"{left},{top},{width},{height},1,{category},0,0")
        Image.fromarray(pixels).save(tmp_path / "train" / "images" / f"{number}.png")
        (tmp_path / "train" / "annotations" / f"{number}.txt").write_text("\n".join(rows))
    return tmp_path


def pixels_of(target: Mapping[str, Tensor], kind: str) -> list[list[int]]:
    """Boxes of a target, xyxy in px."""
    boxes: list[list[int]] = (box_convert(target[kind], "cxcywh", "xyxy") * target["size"][[1, 0, 1, 0]]).tolist()
    return [[round(value) for value in box] for box in boxes]


def check_sample(image: Tensor, target: Mapping[str, Tensor]) -> None:
    """Check that a box has one colour, that of its label, and that no coloured px lies outside of all boxes."""
    red, green, blue = image.numpy().astype(int)
    uncovered = blue == 255
    for kind in ("", "ignore_"):
        for (left, top, right, bottom), label in zip(
            pixels_of(target, f"{kind}boxes"), target[f"{kind}labels"].tolist(), strict=True
        ):
            inside = np.s_[top:bottom, left:right]
            (cell,) = set((red[inside].ravel() - 100) // 10)
            assert len(set(green[inside].ravel())) == 1
            assert label == (-1 if cell == 4 else cell % 3)
            assert kind == "ignore_" or cell != 4
            assert (blue[inside] == 255).all()
            uncovered[inside] = False
    assert not uncovered.any()


@pytest.mark.parametrize(
    "augment",
    [
        {"quarter_turns": 0.75, "vertical_flip": 0.5},
        {"mosaic": 1.0},
        {"copy_paste": {"probability": 1, "max_overlap": 0, "scale_jitter": [1, 1]}},
        {
            "mosaic": 0.7, "quarter_turns": 0.75, "vertical_flip": 0.5, "random_crop": True,
            "copy_paste": {"probability": 1, "max_overlap": 0, "scale_jitter": [1, 1]},
        },
    ],
    ids=["turns", "mosaic", "copy_paste", "all"],
)  # fmt: skip
@pytest.mark.parametrize("tile", [None, {"size": 64, "overlap": 16}], ids=["whole", "tiles"])
def test_boxes_are_the_extents_of_their_colours(
    augment: dict[str, Any], tile: dict[str, Any] | None, coloured: Path
) -> None:
    if tile is None:
        augment = augment | {"random_crop": False}
    data = {"root": coloured, "train": "train", "val": "train", "tile": tile, "augment": augment}
    dataset = build_dataset(make_config({"data": data}), "train")
    objects = ignored = 0
    for epoch in range(6):
        for index in range(len(dataset)):
            sample = dataset[epoch, index]
            assert sample is not None
            check_sample(*sample)
            target = sample[1]
            objects, ignored = objects + len(target["boxes"]), ignored + len(target["ignore_boxes"])
    assert objects > 100
    assert ignored > 10
