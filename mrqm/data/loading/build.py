"""Construction of the datasets that a configuration describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mrqm.config import Config
from mrqm.data.formats.class_names import order_classes
from mrqm.data.formats.readers import read_annotations, read_own_classes
from mrqm.data.images.resizing import build_resize
from mrqm.data.images.windows import Item, drop_empty, tile_items, whole_items
from mrqm.data.loading.dataset import DetectionDataset, IgnoreRules
from mrqm.data.loading.transforms import Augmentation
from mrqm.structures.annotations import AnnotationSet, DataError


def read_classes(config: Config) -> tuple[str, ...]:
    """Read the class names in label order: `data.classes`, or those of the format or the training annotations.

    Raises:
        DataError: the training annotations have to be read and cannot be.
    """
    if config.data.classes is not None:
        return config.data.classes
    return read_own_classes(config.data.format, config.data.folder / config.data.train)


def build_dataset(
    config: Config, split: Literal["train", "val"], classes: Sequence[str] | None = None
) -> DetectionDataset:
    """Build the training or validation data of a configuration; `val` has the labels of `train` and no augmentation.

    Args:
        config: configuration of the training.
        split: `train` or `val`.
        classes: names of the configuration's classes in another label order, such as that of a model.

    Returns:
        The dataset.

    Raises:
        DataError: the data cannot be used; the message names the file.
    """
    data, training = config.data, split == "train"
    folder = data.folder / (data.train if training else data.val)
    annotations = read_annotations(data.format, folder, read_classes(config))
    if classes is not None:
        annotations = order_classes(annotations, classes, folder)
    dataset = DetectionDataset(
        annotations,
        _make_items(config, annotations, training),
        ignore=IgnoreRules(data.tile.min_area_ratio, data.tile.blackout_ignored) if data.tile else IgnoreRules(),
        augmentation=_make_augmentation(config) if training else None,
        seed=config.train.seed,
        cache_mb=data.cache_mb,
        max_unreadable=data.max_unreadable,
    )
    if not any(len(record.boxes) for record in annotations.records):
        raise DataError(f"{folder}: no object in {len(annotations.records)} images")
    if not len(dataset):
        raise DataError(
            f"{folder}: no window shows more than data.tile.min_area_ratio of an object; the objects are too large for "
            f"data.tile.size={data.tile.size if data.tile else None} at data.scale={data.scale} and "
            f"data.resize={data.resize}"
        )
    return dataset


def _make_items(config: Config, annotations: AnnotationSet, training: bool) -> list[Item]:
    data = config.data
    if data.tile is None:
        return whole_items(annotations.records, build_resize(data, tiled=False))
    items = tile_items(annotations.records, build_resize(data, tiled=True), data.tile.size, data.tile.overlap)
    return (
        drop_empty(items, data.tile.min_area_ratio, data.tile.empty_fraction, config.train.seed) if training else items
    )


def _make_augmentation(config: Config) -> Augmentation:
    data = config.data
    tile = data.tile.size if data.tile else None
    return Augmentation(**data.augment.model_dump(), tile=tile, max_side=data.longest_side)
