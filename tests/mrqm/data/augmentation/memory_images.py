"""A training set of images in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrqm.data.augmentation.canvas import Canvas, cut_canvas
from mrqm.data.augmentation.views import View
from mrqm.data.images.windows import Item
from mrqm.structures.annotations import ImageRecord, xyxy_to_xywh
from mrqm.structures.ground_truth import make_ground_truth
from mrqm.structures.window import Window


class MemoryImages:
    """Images of noise, each of them an item; those with an index in `unreadable` do not decode."""

    def __init__(self, size: tuple[int, int], unreadable: tuple[int, ...] = ()) -> None:
        self.size, self.unreadable = size, unreadable
        self.items: list[Item] = []
        self.pixels: list[NDArray[np.uint8]] = []

    def add(self, boxes_xyxy: Sequence[Sequence[float]], labels: Sequence[int]) -> None:
        """Add an image; labels below 0 are those of ignored regions."""
        number = len(self.items)
        truth = make_ground_truth(xyxy_to_xywh(np.array(boxes_xyxy, float).reshape(-1, 4)), np.array(labels, np.int64))
        record = ImageRecord(Path(f"{number}.png"), number, self.size, truth)
        self.items.append(Item(record, self.size, Window(0, 0, self.size[1], self.size[0])))
        self.pixels.append(np.random.default_rng(100 + number).integers(0, 256, (3, *self.size), dtype=np.uint8))

    def cut(self, index: int, view: View) -> Canvas | None:
        return None if index in self.unreadable else cut_canvas(self.items[index], view, self.pixels[index], 0)

    def neighbours(self, epoch: int, index: int) -> NDArray[np.int64]:
        return np.arange(len(self.items))
