from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

BACKGROUND = (40, 60, 40)
OBJECT = (250, 250, 250)

WriteImage = Callable[..., Path]
WriteVisDrone = Callable[..., Path]
WriteCoco = Callable[..., Path]


@pytest.fixture
def painted() -> Callable[..., NDArray[np.uint8]]:
    """Image with objects painted into it; boxes are xyxy px."""

    def paint(size: tuple[int, int], boxes: Sequence[Sequence[float]] = ()) -> NDArray[np.uint8]:
        image = np.full((*size, 3), BACKGROUND, dtype=np.uint8)
        for left, top, right, bottom in np.asarray(boxes, dtype=int).reshape(-1, 4):
            image[top:bottom, left:right] = OBJECT
        return image

    return paint


@pytest.fixture
def write_visdrone(tmp_path: Path, painted: Callable[..., NDArray[np.uint8]]) -> WriteVisDrone:
    """Write images with the given annotation texts; objects of categories 1 and above are painted."""

    def write(
        texts: Mapping[str, str], *, split: str = "train", size: tuple[int, int] = (96, 128), suffix: str = ".png"
    ) -> Path:
        folder = tmp_path / split
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "annotations").mkdir(exist_ok=True)
        for name, text in texts.items():
            rows = [line.split(",") for line in text.splitlines()]
            try:
                xywh = np.array([row[:4] for row in rows if len(row) > 5 and row[5] != "0"], dtype=int).reshape(-1, 4)
            except ValueError:  # the text is meant to be wrong
                xywh = np.zeros((0, 4), dtype=int)
            boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).clip(0)
            Image.fromarray(painted(size, boxes)).save(folder / "images" / f"{name}{suffix}")
            (folder / "annotations" / f"{name}.txt").write_text(text)
        return folder

    return write


@pytest.fixture
def write_coco(tmp_path: Path, painted: Callable[..., NDArray[np.uint8]]) -> WriteCoco:
    """Write a COCO folder; every image is 96×128 px unless its entry says otherwise."""

    def write(
        annotations: Sequence[Mapping[str, Any]],
        categories: Sequence[Mapping[str, Any]] = ({"id": 1, "name": "boat"}, {"id": 3, "name": "buoy"}),
        images: Sequence[Mapping[str, Any]] = ({"id": 5, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}),
        *,
        split: str = "train",
        json_name: str = "_annotations.coco.json",
        images_folder: str = ".",
    ) -> Path:
        folder = tmp_path / split
        (folder / images_folder).mkdir(parents=True, exist_ok=True)
        for image in images:
            Image.fromarray(painted((96, 128))).save(folder / images_folder / image["file_name"])
        content = {"images": list(images), "annotations": list(annotations), "categories": list(categories)}
        (folder / json_name).write_text(json.dumps(content))
        return folder

    return write
