"""How large an image is when the model looks at it: the same in training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from mrqm.config.sections.data import DataConfig

Size: TypeAlias = tuple[int, int]
"""Height and width in px."""
Resize: TypeAlias = Callable[[Size], Size]
"""Native size → size at which the model looks."""


def scaled_size(size: Size, scale: float, max_side: int | None = None) -> Size:
    """(height, width) of a scaled image, shrunk further where its longer side would exceed `max_side` px."""
    factor = scale if max_side is None else min(scale, max_side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def fitted_size(size: Size, short_side: int, max_side: int) -> Size:
    """(height, width) of an image whose shorter side becomes `short_side` px, or whose longer one `max_side` if less.

    Enlarges and shrinks. It is mmdetection's `Resize(scale=(max_side, short_side), keep_ratio=True)`, halves of a px
    rounded up.
    """
    factor = min(short_side / min(size), max_side / max(size))
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def build_resize(data: DataConfig, *, tiled: bool) -> Resize:
    """The resizing that a configuration describes, of images that are cut into tiles afterwards or looked at whole."""
    if data.resize is not None:
        return partial(fitted_size, short_side=data.resize.short_side, max_side=data.resize.max_side)
    return partial(scaled_size, scale=data.scale, max_side=None if tiled else data.max_side)
