"""Size of the model's input images, the same in training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from mrqm.config.sections.data import DataConfig

Size: TypeAlias = tuple[int, int]
"""(height, width) in px."""
Resize: TypeAlias = Callable[[Size], Size]
"""Function from an image's native size to the size of the model's input."""


def scaled_size(size: Size, scale: float, max_side: int | None = None) -> Size:
    """Scale the size of an image.

    Args:
        size: (height, width) in px.
        scale: factor.
        max_side: greatest length of the longer side in px; None for no limit.

    Returns:
        (height, width) in px, at least 1.
    """
    factor = scale if max_side is None else min(scale, max_side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def fitted_size(size: Size, short_side: int, max_side: int) -> Size:
    """Fit the size of an image to given sides, enlarging or shrinking it.

    This is mmdetection's `Resize(scale=(max_side, short_side), keep_ratio=True)`, halves of a px rounded up.

    Args:
        size: (height, width) in px.
        short_side: length of the shorter side in px, unless the longer one would exceed `max_side`.
        max_side: greatest length of the longer side in px.

    Returns:
        (height, width) in px, at least 1.
    """
    factor = min(short_side / min(size), max_side / max(size))
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def build_resize(data: DataConfig, *, tiled: bool) -> Resize:
    """Build the resizing of a configuration.

    Args:
        data: configuration of the data.
        tiled: True for images that are cut into tiles afterwards, False for whole images.

    Returns:
        The function from native size to resized size.
    """
    if data.resize is not None:
        return partial(fitted_size, short_side=data.resize.short_side, max_side=data.resize.max_side)
    return partial(scaled_size, scale=data.scale, max_side=None if tiled else data.max_side)
