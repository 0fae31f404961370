"""What a dataset's indices stand for: whole images, or windows of them, known without decoding a single image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrqm.data.images.resizing import Resize
from mrqm.data.images.tiling import black_out, clip_to_window, grid, visible_share
from mrqm.structures.annotations import ImageRecord, clip_to_image, xywh_to_xyxy, xyxy_to_xywh
from mrqm.structures.ground_truth import IGNORED_REGION, GroundTruth, make_ground_truth
from mrqm.structures.window import Window


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


def window_truth(item: Item, min_area_ratio: float, size: tuple[float, float]) -> GroundTruth:
    """The annotations that have an area inside an item's window, cut to it.

    Args:
        item: a window of an annotated image.
        min_area_ratio: objects of which at most this share lies in the window become ignored boxes of their class.
        size: (height, width) of the window in the px that are wanted.

    Returns:
        Boxes in those px, from the window's corner. Areas stay in native px²: the visible shares of the annotated ones.
    """
    record, window = item.record, item.window
    truth = record.truth.take(record.usable)
    y, x = item.size[0] / record.size[0], item.size[1] / record.size[1]
    clipped, _ = clip_to_image(xywh_to_xyxy(truth.boxes_xywh), record.size)
    boxes = clipped * [x, y, x, y]
    share = visible_share(boxes, window)
    zoom_y, zoom_x = size[0] / window.height, size[1] / window.width
    placed = (clip_to_window(boxes, window) - [window.left, window.top] * 2) * [zoom_x, zoom_y, zoom_x, zoom_y]
    fragment = truth.is_object & (share <= min_area_ratio)
    return make_ground_truth(
        xyxy_to_xywh(placed),
        truth.labels,
        areas=truth.areas * share,
        crowd=truth.crowd | fragment,
        ignored=truth.ignored | fragment,
    ).take(share > 0)


def scored_record(item: Item, number: int, min_area_ratio: float) -> ImageRecord:
    """An item as an image that is scored: in px of the native image, as annotated where it shows the whole image.

    Args:
        item: an image or a window of it.
        number: its image_id, if it is a window.
        min_area_ratio: objects of which at most this share lies in the window become ignored boxes of their class.
    """
    record, window = item.record, item.window
    if (window.height, window.width) == item.size:
        return record
    height, width = native_size(item, window)
    return ImageRecord(record.path, number, (height, width), window_truth(item, min_area_ratio, (height, width)))


def native_size(item: Item, window: Window) -> tuple[int, int]:
    """(height, width) of a window of an item's scaled image in whole px of the native image."""
    height = max(1, round(window.height * item.record.size[0] / item.size[0]))
    return height, max(1, round(window.width * item.record.size[1] / item.size[1]))


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


def drop_empty(items: Sequence[Item], min_area_ratio: float, empty_fraction: float, seed: int) -> list[Item]:
    """Keep the items in which an object is visible, and a share of the others that the seed picks."""
    lots = np.random.default_rng(seed).random(len(items))
    return [
        item
        for item, lot in zip(items, lots, strict=True)
        if lot < empty_fraction or count_visible(item, min_area_ratio)
    ]


def count_visible(item: Item, min_area_ratio: float) -> int:
    """Objects of which more than the share `min_area_ratio` lies in the item's window."""
    share = visible_share(item.record.boxes * item.factors, item.window)
    return int((share > min_area_ratio).sum())
