"""What VisDrone's toolkit removes before it scores: all that lies in the regions where nobody looked."""

from __future__ import annotations

import numpy as np

from mrqm.evaluation.matching import Array

COVERED = 0.5


def outside(boxes: Array, regions: Array, size: tuple[int, int]) -> Array:
    """Which boxes are less than half covered by the union of regions.

    As `dropObjectsInIgr` of the toolkit does: a region of w × h px marks w + 1 columns and h + 1 rows, both ends
    inclusive, clipped to the image; boxes are rounded to whole px, half away from zero, with sides of at least 1 px;
    a box's covered px are looked for in the image and compared with the area of the whole box. Pixels count from 1,
    so that a box at 0 is the same as one at 1.

    Args:
        boxes: (N, 4) xywh in native px.
        regions: (M, 4) xywh in native px.
        size: (height, width) of the image.

    Returns:
        (N,) bool.
    """
    if not len(regions):
        return np.ones(len(boxes), dtype=bool)
    height, width = size
    marked = np.zeros((height + 1, width + 1), dtype=np.int64)  # row and column 0 stay empty
    for x, y, w, h in _whole_px(regions).tolist():
        marked[y : y + h + 1, x : x + w + 1] = 1
    sums = marked.cumsum(axis=0).cumsum(axis=1)
    x, y, w, h = _whole_px(boxes).T
    left, right = np.minimum(x, width), np.minimum(x + w, width)
    top, bottom = np.minimum(y, height), np.minimum(y + h, height)
    covered = sums[top, left] + sums[bottom, right] - sums[top, right] - sums[bottom, left]
    return covered / (w * h) < COVERED


def _whole_px(boxes: Array) -> Array:
    """Half of a px up; to a millionth first, because sides come from differences of coordinates."""
    return np.maximum(1, np.floor(boxes.round(6) + 0.5)).astype(np.int64)
