"""Windows of large images: a grid whose last row and column shift back to the border."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrqm.structures.window import Window


def grid(image_size: tuple[int, int], size: int, overlap: int) -> list[Window]:
    """Cover an image with square windows, row by row.

    The stride is size - overlap, and the last window of a row or column shifts back so that it ends at the border. An
    image smaller than `size` gives windows that are smaller too.

    Args:
        image_size: (height, width) in px.
        size: side of a window in px.
        overlap: least overlap of neighbours in px, below `size`.

    Returns:
        The windows.
    """
    height, width = image_size
    return [
        Window(left, top, min(size, width), min(size, height))
        for top in _starts(height, size, overlap)
        for left in _starts(width, size, overlap)
    ]


def _starts(length: int, size: int, overlap: int) -> list[int]:
    last = max(length - size, 0)
    return [*range(0, last, size - overlap), last]


def visible_share(boxes_xyxy: NDArray[np.floating[Any]], window: Window) -> NDArray[np.float64]:
    """Compute the fraction of each box's area that lies inside a window.

    Args:
        boxes_xyxy: (N, 4) boxes with positive areas, in px of the window's image.
        window: window of the image.

    Returns:
        (N,) fractions in [0, 1].
    """
    boxes = boxes_xyxy.astype(np.float64)  # areas of whole px stay exact: 24 of 60 px² are not above 0.4
    inside = clip_to_window(boxes, window)
    return _areas(inside) / _areas(boxes)


def touches(boxes_xyxy: NDArray[np.float32], window: Window) -> NDArray[np.bool_]:
    """Select the boxes that have any area inside a window.

    Args:
        boxes_xyxy: (N, 4) boxes in px of the window's image.
        window: window of the image.

    Returns:
        (N,) bool.
    """
    left, top, width, height = window
    x0, y0, x1, y1 = boxes_xyxy.T
    return (x0 < left + width) & (x1 > left) & (y0 < top + height) & (y1 > top)


def clip_to_window(boxes_xyxy: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    """Clip boxes to a window.

    Args:
        boxes_xyxy: (N, 4) boxes in px of the window's image.
        window: window of the image.

    Returns:
        (N, 4) boxes in the same px, without area where they lie outside.
    """
    left, top, width, height = window
    return boxes_xyxy.clip([left, top, left, top], [left + width, top + height, left + width, top + height])


def cut(image: NDArray[np.uint8], window: Window, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut a window out of an image, padded right and bottom with 0 where it is smaller than a tile.

    Args:
        image: (H, W, 3) uint8 image.
        window: window of the image.
        size: (height, width) of the tile in px.

    Returns:
        (height, width, 3), a new array.
    """
    left, top, width, height = window
    tile = np.zeros((*size, 3), dtype=np.uint8)
    tile[:height, :width] = image[top : top + height, left : left + width]
    return tile


def black_out(image: NDArray[np.uint8], regions_xyxy: NDArray[np.float32], spared_xyxy: NDArray[np.float32]) -> None:
    """Paint regions of an image black, in place, except px that a spared box covers.

    Every px that a region or box touches counts as covered by it.

    Args:
        image: (H, W, 3) uint8 image.
        regions_xyxy: (M, 4) regions in px of the image.
        spared_xyxy: (N, 4) boxes in px of the image that are not painted.
    """
    spared = _whole_pixels(spared_xyxy)
    for left, top, right, bottom in _whole_pixels(regions_xyxy):
        part = image[top:bottom, left:right]
        kept = np.zeros(part.shape[:2], dtype=bool)
        for x0, y0, x1, y1 in (spared - [left, top, left, top]).clip(0):
            kept[y0:y1, x0:x1] = True
        part[~kept] = 0


def _whole_pixels(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.concatenate([np.floor(boxes_xyxy[:, :2]).clip(0), np.ceil(boxes_xyxy[:, 2:])], axis=1).astype(np.int64)


def _areas(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
