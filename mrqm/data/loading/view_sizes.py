"""Sizes and contents of the augmented views of a training's images, computed without decoding."""

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
    augment, tile, limit = config.data.augment, config.data.tile, config.data.longest_side
    windows = {(item.window.height, item.window.width) for item in data.items}
    sizes = {_zoomed(size, augment.scale_jitter[1], tile.size if tile else None, limit) for size in windows}
    return sizes | {(width, height) for height, width in sizes} if augment.quarter_turns else sizes


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


def most_objects(config: Config, data: DetectionDataset) -> int:
    """Compute an upper bound of the objects in a view.

    Args:
        config: configuration of the training.
        data: training data.

    Returns:
        The number of objects.
    """
    augment = config.data.augment
    images = (4 if augment.mosaic else 1) + (1 if augment.mixup else 0)
    copies = augment.copy_paste.max_objects if augment.copy_paste.probability else 0
    return images * data.most_objects + copies


def _zoomed(size: tuple[int, int], zoom: float, tile: int | None, limit: int | None) -> tuple[int, int]:
    """Compute the size of the largest view of an item, as `ViewSampler` makes it."""
    if tile is not None:
        factor = max(1.0, zoom)
        return min(tile, round(size[0] * factor)), min(tile, round(size[1] * factor))
    factor = zoom if limit is None else min(zoom, limit / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
