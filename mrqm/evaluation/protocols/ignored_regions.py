"""Removal of boxes in ignored regions, as VisDrone's toolkit does before scoring."""

from __future__ import annotations

import numpy as np

from mrqm.evaluation.protocols.matching import Array

COVERED = 0.5


def outside(boxes: Array, regions: Array, size: tuple[int, int]) -> Array:
    """Select the boxes of which less than half is covered by the union of regions.

    As in `dropObjectsInIgr` of the toolkit, a region of w × h px marks w + 1 columns and h + 1 rows, both ends
    inclusive, clipped to the image; boxes are rounded to whole px, half away from zero, with sides of at least 1 px;
    a box's covered px inside the image are compared with the area of the whole box. Pixels count from 1,
    so that a box at 0 is the same as one at 1.

    Args:
        boxes: (N, 4) boxes, xywh in native px.
        regions: (M, 4) regions, xywh in native px.
        size: (height, width) of the image in px.

    Returns:
        (N,) bool, True for boxes outside.
    """
    if not len(regions):
        return np.ones(len(boxes), dtype=bool)
    height, width = size
    x, y, w, h = _whole_px(regions).T
    columns, marked_columns = _cells(x - 1, np.minimum(x + w, width))
    rows, marked_rows = _cells(y - 1, np.minimum(y + h, height))
    marked = (marked_rows.T.astype(int) @ marked_columns) > 0  # (rows of cells, columns of cells)
    x, y, w, h = _whole_px(boxes).T
    in_columns = _lengths_in(columns, np.minimum(x, width), np.minimum(x + w, width))
    in_rows = _lengths_in(rows, np.minimum(y, height), np.minimum(y + h, height))
    covered = ((in_columns @ marked.T) * in_rows).sum(axis=1)
    return covered / (w * h) < COVERED


def _cells(starts: Array, ends: Array) -> tuple[Array, Array]:
    """Cut a side of the image wherever one of M regions begins or ends, so that each region covers whole cells.

    Returns:
        (E + 1,) ascending edges, and (M, E) bool, True for the cells that each region covers.
    """
    edges = np.unique(np.concatenate([starts, ends]))
    return edges, (starts[:, None] <= edges[:-1]) & (edges[1:] <= ends[:, None])


def _lengths_in(edges: Array, starts: Array, ends: Array) -> Array:
    """Compute the (N, E) px of each of N spans in each cell."""
    shared = np.minimum(ends[:, None], edges[1:]) - np.maximum(starts[:, None], edges[:-1])
    return shared.clip(min=0)


def _whole_px(boxes: Array) -> Array:
    """Round to whole px, half upwards, at least 1."""
    return np.maximum(1, np.floor(boxes + 0.5)).astype(np.int64)
