"""Windows of large images: a grid whose last row and column shift back to the border."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Window(NamedTuple):
    """A rectangle of an image, in whole px."""

    left: int
    top: int
    width: int
    height: int


def grid(image_size: tuple[int, int], size: int, overlap: int) -> list[Window]:
    """Cover an image with square windows, row by row.

    The stride is size - overlap, and the last window of a row or column shifts back so that it ends at the border. An
    image smaller than `size` gives windows that are smaller too.

    Args:
        image_size: (height, width) in px.
        size: side of a window in px.
        overlap: px that neighbours share, at least; below `size`.
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


def visible_share(boxes_xyxy: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """The share of each box's area that lies inside a window.

    Args:
        boxes_xyxy: (N, 4) with positive areas, in the px of the window's image.

    Returns:
        (N,) between 0 and 1.
    """
    left, top, width, height = window
    inside = boxes_xyxy.clip([left, top, left, top], [left + width, top + height, left + width, top + height])
    sides, inside_sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], inside[:, 2:] - inside[:, :2]
    return (inside_sides / sides).prod(axis=1)
