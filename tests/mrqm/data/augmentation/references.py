"""Naive references of augmentation: every px says which box it belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mrqm.data.augmentation.canvas import Boxes, Canvas


def make_canvas(
    size: tuple[int, int], boxes: Sequence[Sequence[float]] = (), ignored: Sequence[Sequence[float]] = (), seed: int = 0
) -> Canvas:
    """Noise with boxes in px; the label of an object is its position among the objects."""
    xyxy = np.array([*boxes, *ignored], np.float32).reshape(-1, 4)
    pixels = np.random.default_rng(seed).integers(0, 256, (3, *size), dtype=np.uint8)
    labels = np.array([*range(len(boxes)), *[-1] * len(ignored)], np.int64)
    areas = (xyxy[:, 2:] - xyxy[:, :2]).astype(np.float64).prod(axis=1)
    return Canvas(torch.from_numpy(pixels), Boxes(xyxy, labels, labels >= 0, areas, np.zeros(len(xyxy))))


def random_boxes(size: tuple[int, int], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Boxes of whole px inside an image, of at least one px."""
    left, top = rng.integers(0, size[1], count), rng.integers(0, size[0], count)
    right, bottom = rng.integers(left + 1, size[1] + 1), rng.integers(top + 1, size[0] + 1)
    return np.stack([left, top, right, bottom], axis=1)


def mask_of(box: Sequence[float], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) mask of the px inside a box of whole px."""
    mask = np.zeros(size, dtype=bool)
    left, top, right, bottom = (int(value) for value in box)
    mask[top:bottom, left:right] = True
    return mask


def extent_of(mask: NDArray[np.bool_]) -> list[int] | None:
    """Extent of a mask, xyxy; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
