"""Sizes of the augmented views of a training's images, computed without decoding."""

from __future__ import annotations

from mrqm.config import Config
from mrqm.data.loading.dataset import DetectionDataset


def view_sizes(config: Config, data: DetectionDataset) -> set[tuple[int, int]]:
    """Compute the sizes of the largest views that augmentation makes of a training's items.

    Args:
        config: configuration of the training.
        data: training data.

    Returns:
        The different (height, width) in px.
    """
    zoom, tile, limit = config.data.augment.scale_jitter[1], config.data.tile, config.data.longest_side
    sizes = {(item.window.height, item.window.width) for item in data.items}
    return {_zoomed(size, zoom, tile.size if tile else None, limit) for size in sizes}


def largest_view(config: Config, data: DetectionDataset) -> tuple[int, int]:
    """Compute the size that contains every view.

    Args:
        config: configuration of the training.
        data: training data.

    Returns:
        (height, width) in px.
    """
    heights, widths = zip(*view_sizes(config, data), strict=True)
    return max(heights), max(widths)


def _zoomed(size: tuple[int, int], zoom: float, tile: int | None, limit: int | None) -> tuple[int, int]:
    """Compute the size of the largest view of an item, as `Augmentation` makes it."""
    if tile is not None:
        factor = max(1.0, zoom)
        return min(tile, round(size[0] * factor)), min(tile, round(size[1] * factor))
    factor = zoom if limit is None else min(zoom, limit / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
