"""What a dataset's indices stand for: whole images, or windows of them, known without decoding a single image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrqm.data.records import IGNORED_REGION, ImageRecord
from mrqm.data.resizing import Resize
from mrqm.data.tiling import Window, black_out, clip_to_window, grid, visible_share


class Item(NamedTuple):
    """What one index of the dataset stands for.

    `size` is the (height, width) that the record's image is resized to; `window` lies in its px.
    """

    record: ImageRecord
    size: tuple[int, int]
    window: Window

    @property
    def factors(self) -> NDArray[np.float32]:
        """(4,) by which xyxy native px become px of the scaled image."""
        y, x = self.size[0] / self.record.size[0], self.size[1] / self.record.size[1]
        return np.array([x, y, x, y], dtype=np.float32)


def item_record(item: Item, path: Path, image_id: int | str, size: tuple[int, int], min_visible: float) -> ImageRecord:
    """The annotations of an item as those of an image of its own, whose px are the item's.

    Args:
        path, image_id, size: of that image.
        min_visible: objects of which at most this share lies in the window become ignored boxes of their class.
    """
    record, window = item.record, item.window
    boxes = np.concatenate([record.boxes, record.ignore_boxes]) * item.factors
    labels = np.concatenate([record.labels, record.ignore_labels])
    share = visible_share(boxes, window)
    is_object = (np.arange(len(boxes)) < len(record.boxes)) & (share > min_visible)
    is_ignored = ~is_object & (share > 0)
    inside = clip_to_window(boxes.astype(np.float64), window) - [window.left, window.top, window.left, window.top]
    placed = inside.astype(np.float32)
    return ImageRecord(
        path, image_id, size, placed[is_object], labels[is_object], placed[is_ignored], labels[is_ignored]
    )


def black_out_regions(item: Item, image: NDArray[np.uint8]) -> None:
    """Paint the ignored regions of an item's scaled image (H, W, 3) black in place, except where objects lie."""
    record = item.record
    regions = record.ignore_boxes[record.ignore_labels == IGNORED_REGION]
    black_out(image, regions * item.factors, record.boxes * item.factors)


def whole_items(records: Sequence[ImageRecord], resize: Resize) -> list[Item]:
    """One item for each resized image."""
    sizes = [resize(record.size) for record in records]
    return [Item(record, size, Window(0, 0, size[1], size[0])) for record, size in zip(records, sizes, strict=True)]


def tile_items(records: Sequence[ImageRecord], resize: Resize, tile: int, overlap: int) -> list[Item]:
    """One item for each window of each resized image."""
    sizes = [resize(record.size) for record in records]
    return [
        Item(record, size, window)
        for record, size in zip(records, sizes, strict=True)
        for window in grid(size, tile, overlap)
    ]


def drop_empty(items: Sequence[Item], min_visible: float, keep_empty: float, seed: int) -> list[Item]:
    """Keep the items in which an object is visible, and a share of the others that the seed picks."""
    lots = np.random.default_rng(seed).random(len(items))
    return [item for item, lot in zip(items, lots, strict=True) if lot < keep_empty or count_visible(item, min_visible)]


def count_visible(item: Item, min_visible: float) -> int:
    """Objects of which more than the share `min_visible` lies in the item's window."""
    share = visible_share(item.record.boxes * item.factors, item.window)
    return int((share > min_visible).sum())
