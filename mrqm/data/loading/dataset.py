"""Dataset over every annotation format: whole images, or tiles cut while they are read.

    dataset = build_dataset(config, "train")
    image, target = dataset[7]          # item 7 without augmentation
    image, target = dataset[3, 7]       # item 7 as augmented in epoch 3 of the training

The sample of an item depends on the seed, the epoch, its index and the phase of the training only.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mrqm.data.augmentation.augmentation import Augmentation
from mrqm.data.augmentation.canvas import Canvas, cut_canvas
from mrqm.data.augmentation.source import Draw
from mrqm.data.augmentation.views import View, plain_view
from mrqm.data.images.decoding import Columns, ImageCache, UnreadableImageError
from mrqm.data.images.windows import Item, black_out_regions, native_size, scored_record, visible_labels
from mrqm.data.loading.pools import Neighbours
from mrqm.structures.annotations import AnnotationSet, DataError, ImageRecord
from mrqm.structures.batch import Target

logger = logging.getLogger(__name__)

Sample = tuple[Tensor, Target]

SUBSTITUTE_STAGE = 7
"""Stage of the random numbers that replace items that do not decode; those of the augmentation are below."""


@dataclass(frozen=True)
class IgnoreRules:
    """Rules for objects that a window cuts off, and for ignored regions.

    Attributes:
        min_area_ratio: objects of which at most this fraction is visible become ignored regions.
        blackout: true to paint ignored regions black except where an object lies over them.
    """

    min_area_ratio: float = 0.0
    blackout: bool = False


class DetectionDataset(Dataset[Sample | None]):
    """Images with their boxes as tensors; see the tensor vocabulary in `mrqm`.

    Args:
        annotations: annotations from a reader.
        items: whole images or windows of them, see `whole_items` and `tile_items`.
        ignore: rules for objects that a window cuts off, and for ignored regions.
        augmentation: random views for training; None for no augmentation.
        seed: seed of the order of images and of the choice among readable ones.
        cache_mb: memory for decoded images in MiB.
        max_unreadable: number of images that may fail to decode before `DataError` is raised.

    Raises:
        DataError: more images than `max_unreadable` have no readable header.
    """

    def __init__(
        self,
        annotations: AnnotationSet,
        items: Sequence[Item],
        *,
        ignore: IgnoreRules = IgnoreRules(),
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache_mb: int = 512,
        max_unreadable: int = 0,
    ) -> None:
        self.annotations = annotations
        self.classes = annotations.classes
        self.items = items
        self._min_visible = ignore.min_area_ratio
        self._blackout_ignored = ignore.blackout
        self._augmentation = augmentation
        self._seed = seed
        self._cache, self._cache_mb = ImageCache(cache_mb), cache_mb
        self._max_unreadable = max_unreadable
        self._images = {item.record.path for item in items}
        self._keeps_grid = augmentation is None or augmentation.views.keeps_grid
        self._columns = self._group_columns()
        self._unreadable: set[Path] = set()
        for path in annotations.unreadable:
            self.tolerate(path, UnreadableImageError(f"{path}: the image does not decode: no image header"))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int | tuple[int, int] | Draw) -> Sample | None:
        """Read the item at an index without augmentation, or at a draw with that of its epoch.

        Args:
            index: index of the item, or its draw: epoch, index and, where it differs from False, the phase.

        Returns:
            uint8 image (3, H, W) and its target; `orig_size` of an augmented image is its `size`. For an image that
            does not decode: None, or, in training, another item selected by the seed.

        Raises:
            DataError: more images than `max_unreadable` do not decode.
        """
        if not isinstance(index, tuple):
            item = self.items[index]
            canvas = self.cut(index, plain_view(item.window))
            return None if canvas is None else self._sample(index, canvas, native_size(item, item.window))
        draw = Draw(*index)
        rng = np.random.default_rng((self._seed, draw.epoch, draw.item, SUBSTITUTE_STAGE))
        while (canvas := self._make(draw)) is None:
            draw = draw._replace(item=int(rng.integers(len(self))))
        return self._sample(draw.item, canvas, canvas.size)

    def cut(self, index: int, view: View) -> Canvas | None:
        """Take a view of an item.

        Args:
            index: index of the item.
            view: view within the item's window, or anywhere in the image if the views leave the grid.

        Returns:
            The view with its boxes; None if the image does not decode.

        Raises:
            DataError: more images than `max_unreadable` do not decode.
        """
        item = self.items[index]
        record = item.record
        if record.path in self._unreadable:
            return None
        try:
            finish = partial(black_out_regions, item) if self._blackout_ignored else None
            columns = self._columns_of(item)
            pixels = self._cache.get(record.path, item.size, self._columns[record.path], finish)[columns]
        except UnreadableImageError as error:
            self.tolerate(record.path, error)
            return None
        return cut_canvas(item, view, pixels, columns.left)

    def neighbours(self, epoch: int, index: int) -> NDArray[np.int64]:
        """List the items whose images are read at about the same time of an epoch, the item's own included.

        Args:
            epoch: number of the epoch.
            index: index of the item.

        Returns:
            (K,) indices.
        """
        return self._neighbours.of(epoch, index)

    def clear_cache(self) -> None:
        """Forget all decoded images."""
        self._cache.clear()

    def count_objects(self, index: int) -> int:
        """Count the objects of an item without augmentation, without decoding its image."""
        return len(visible_labels(self.items[index], self._min_visible))

    def scored_record(self, index: int) -> ImageRecord:
        """Return an item's ground truth in px of its native image, without decoding that."""
        return scored_record(self.items[index], index, self._min_visible)

    @cached_property
    def most_objects(self) -> int:
        """Greatest number of objects in an item."""
        return max(self.count_objects(index) for index in range(len(self)))

    def image_pools(self) -> tuple[NDArray[np.int64], int]:
        """Return the number of each item's image, and how many decoded images the cache holds, at least one."""
        sizes = {item.record.path: item.size for item in self.items}
        number = {path: index for index, path in enumerate(sizes)}
        widths = {path: sum(part.width for part in self._columns[path]) for path in sizes}
        mean_bytes = np.mean([3 * height * widths[path] for path, (height, _) in sizes.items()])
        held = int(self._cache_mb * 2**20 / mean_bytes)
        return np.array([number[item.record.path] for item in self.items], dtype=np.int64), max(1, held)

    @cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours(*self.image_pools(), self._seed)

    def describe(self) -> dict[str, int]:
        """Count images, items (tiles or images), objects and ignored regions."""
        records = self.annotations.records
        return {
            "images": len(records),
            "items": len(self),
            "objects": sum(len(record.boxes) for record in records),
            "ignored_regions": sum(len(record.ignore_boxes) for record in records),
        }

    def _make(self, draw: Draw) -> Canvas | None:
        if self._augmentation is None:
            return self.cut(draw.item, plain_view(self.items[draw.item].window))
        return self._augmentation.make(self, draw)

    def _sample(self, index: int, canvas: Canvas, native: tuple[int, int]) -> Sample:
        target = canvas.target(self._min_visible)
        return canvas.pixels, target | {"image_id": torch.tensor(index), "orig_size": torch.tensor(native)}

    def _group_columns(self) -> dict[Path, list[Columns]]:
        """Group the columns of px of each image that are kept decoded: those of its windows, or all for views anywhere.

        Pixels where windows overlap are kept twice; in return a window is read as fast as a tile file in memory.
        """
        grouped: dict[Path, set[Columns]] = {path: set() for path in self._images}
        for item in self.items:
            grouped[item.record.path].add(self._columns_of(item))
        return {path: sorted(columns) for path, columns in grouped.items()}

    def _columns_of(self, item: Item) -> Columns:
        return Columns(item.window.left, item.window.width) if self._keeps_grid else Columns(0, item.size[1])

    def tolerate(self, path: Path, error: UnreadableImageError) -> None:
        """Count an image that does not decode.

        Args:
            path: image file.
            error: error of decoding it.

        Raises:
            DataError: more images than `max_unreadable` do not decode, or all of them.
        """
        self._unreadable.add(path)
        if len(self._unreadable) > self._max_unreadable:
            raise DataError(
                f"{error}; {len(self._unreadable)} unreadable images are more than data.max_unreadable="
                f"{self._max_unreadable}"
            ) from error
        if self._images <= self._unreadable:
            raise DataError(f"{error}; no image is left that decodes") from error
        logger.warning("%s; skipped", error)
