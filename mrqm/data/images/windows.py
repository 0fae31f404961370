"""Items of a dataset: whole images, or windows of them, determined without decoding an image."""

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
    """One item of the dataset.

    `size` is the (height, width) that the record's image is resized to; `window` is in px of that size.
    """

    record: ImageRecord
    size: tuple[int, int]
    window: Window

    @property
    def factors(self) -> NDArray[np.float32]:
        """(4,) factors from xyxy native px to px of the scaled image."""
        y, x = self.size[0] / self.record.size[0], self.size[1] / self.record.size[1]
        return np.array([x, y, x, y], dtype=np.float32)


def window_truth(item: Item, min_area_ratio: float, size: tuple[float, float]) -> GroundTruth:
    """Clip the annotations of an item to its window, without those that have no area inside.

    Args:
        item: window of an annotated image.
        min_area_ratio: objects of which at most this fraction lies in the window become ignored boxes of their class.
        size: (height, width) of the window in the wanted px.

    Returns:
        Boxes in those px, relative to the window. Areas stay in native px²: the visible fractions of the annotated
        ones.
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
    """Make the annotated image that an item is scored against: in native px, as annotated if it shows the whole image.

    Args:
        item: image or a window of it.
        number: image_id of a window.
        min_area_ratio: objects of which at most this fraction lies in the window become ignored boxes of their class.

    Returns:
        The annotated image.
    """
    record, window = item.record, item.window
    if (window.height, window.width) == item.size:
        return record
    height, width = native_size(item, window)
    return ImageRecord(record.path, number, (height, width), window_truth(item, min_area_ratio, (height, width)))


def native_size(item: Item, window: Window) -> tuple[int, int]:
    """Compute the (height, width) of a window in whole px of the native image.

    Args:
        item: item with the scaled image.
        window: window in px of the scaled image.

    Returns:
        (height, width) in native px, at least 1.
    """
    height = max(1, round(window.height * item.record.size[0] / item.size[0]))
    return height, max(1, round(window.width * item.record.size[1] / item.size[1]))


def black_out_regions(item: Item, image: NDArray[np.uint8]) -> None:
    """Paint the ignored regions of an item's scaled image black in place, except where objects lie.

    Args:
        item: item of the image.
        image: (H, W, 3) uint8 scaled image.
    """
    record = item.record
    regions = record.ignore_boxes[record.ignore_labels == IGNORED_REGION]
    black_out(image, regions * item.factors, record.boxes * item.factors)


def whole_items(records: Sequence[ImageRecord], resize: Resize) -> list[Item]:
    """Make one item for each resized image.

    Args:
        records: annotated images.
        resize: function from native size to resized size.

    Returns:
        The items in the order of the records.
    """
    sizes = [resize(record.size) for record in records]
    return [Item(record, size, Window(0, 0, size[1], size[0])) for record, size in zip(records, sizes, strict=True)]


def tile_items(records: Sequence[ImageRecord], resize: Resize, tile: int, overlap: int) -> list[Item]:
    """Make one item for each window of each resized image.

    Args:
        records: annotated images.
        resize: function from native size to resized size.
        tile: side of a window in px.
        overlap: least overlap of neighbours in px.

    Returns:
        The items in the order of the records and of `grid`.
    """
    sizes = [resize(record.size) for record in records]
    return [
        Item(record, size, window)
        for record, size in zip(records, sizes, strict=True)
        for window in grid(size, tile, overlap)
    ]


def drop_empty(items: Sequence[Item], min_area_ratio: float, empty_fraction: float, seed: int) -> list[Item]:
    """Drop items without visible objects, except a random fraction of them.

    Args:
        items: items of the dataset.
        min_area_ratio: fraction of an object's area above which it is visible.
        empty_fraction: fraction of the items without visible objects to keep.
        seed: seed of the selection.

    Returns:
        The remaining items.
    """
    draws = np.random.default_rng(seed).random(len(items))
    return [
        item
        for item, draw in zip(items, draws, strict=True)
        if draw < empty_fraction or len(visible_labels(item, min_area_ratio))
    ]


def visible_labels(item: Item, min_area_ratio: float) -> NDArray[np.int64]:
    """Select the labels of the objects of which more than a fraction lies in the item's window.

    Args:
        item: item of the dataset.
        min_area_ratio: fraction of an object's area above which it counts.

    Returns:
        (N,) labels.
    """
    share = visible_share(item.record.boxes * item.factors, item.window)
    return item.record.labels[share > min_area_ratio]
