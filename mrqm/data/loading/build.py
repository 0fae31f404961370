"""Construction of the datasets that a configuration describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mrqm.config import Config, TileConfig
from mrqm.data.augmentation.augmentation import Augmentation
from mrqm.data.augmentation.colours import ColorJitter, Degradation
from mrqm.data.augmentation.copy_paste import CopyPaste
from mrqm.data.augmentation.joining import Joining
from mrqm.data.augmentation.object_index import LEAST_SIDE, ObjectIndex
from mrqm.data.augmentation.symmetries import Symmetries
from mrqm.data.augmentation.views import ViewSampler
from mrqm.data.formats.class_names import order_classes
from mrqm.data.formats.readers import read_annotations, read_own_classes
from mrqm.data.images.resizing import build_resize
from mrqm.data.images.windows import Item, drop_empty, tile_items, whole_items
from mrqm.data.loading.dataset import DetectionDataset, IgnoreRules
from mrqm.data.loading.repeats import repeat_rare
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
    items = _make_items(config, folder, annotations, training)
    return DetectionDataset(
        annotations,
        items,
        ignore=_ignore_rules(config),
        augmentation=_build_augmentation(config, folder, items) if training else None,
        seed=config.train.seed,
        cache_mb=data.cache_mb,
        max_unreadable=data.max_unreadable,
    )


def _make_items(config: Config, folder: Path, annotations: AnnotationSet, training: bool) -> list[Item]:
    if not any(len(record.boxes) for record in annotations.records):
        raise DataError(f"{folder}: no object in {len(annotations.records)} images")
    items = _cut_items(config, folder, annotations, training)
    if training and config.data.repeat_threshold:
        least = _ignore_rules(config).min_area_ratio
        items = repeat_rare(items, least, config.data.repeat_threshold, config.train.seed)
    return items


def _cut_items(config: Config, folder: Path, annotations: AnnotationSet, training: bool) -> list[Item]:
    data = config.data
    if data.tile is None:
        return whole_items(annotations.records, build_resize(data, tiled=False))
    items = tile_items(annotations.records, build_resize(data, tiled=True), data.tile.size, data.tile.overlap)
    if training:
        items = drop_empty(items, data.tile.min_area_ratio, data.tile.empty_fraction, config.train.seed)
    if not items:
        raise DataError(
            f"{folder}: no window shows more than data.tile.min_area_ratio of an object; the objects are too large for "
            f"data.tile.size={data.tile.size} at data.scale={data.scale} and data.resize={data.resize}"
        )
    return items


def _ignore_rules(config: Config) -> IgnoreRules:
    tile = config.data.tile
    if tile is None:  # objects of whole images are cut by mosaics alone
        return IgnoreRules(TileConfig().min_area_ratio)
    return IgnoreRules(tile.min_area_ratio, tile.blackout_ignored)


def _build_augmentation(config: Config, folder: Path, items: list[Item]) -> Augmentation:
    data, augment = config.data, config.data.augment
    views = ViewSampler(
        augment.scale_jitter, augment.random_crop, data.tile.size if data.tile else None, data.longest_side
    )
    flips = augment.horizontal_flip, augment.vertical_flip, augment.quarter_turns
    losses = augment.grayscale, augment.blur, augment.noise, augment.jpeg
    return Augmentation(
        seed=config.train.seed,
        views=views,
        joining=Joining(views, augment.mosaic, augment.mixup) if augment.mosaic or augment.mixup else None,
        copy_paste=_build_copy_paste(config, folder, items) if augment.copy_paste.probability else None,
        symmetries=Symmetries(*flips) if any(flips) else None,
        colors=ColorJitter(augment.color_jitter) if augment.color_jitter else None,
        degradation=Degradation(*losses) if any(losses) else None,
    )


def _build_copy_paste(config: Config, folder: Path, items: list[Item]) -> CopyPaste:
    augment = config.data.augment
    paste = augment.copy_paste
    objects = ObjectIndex(items, paste.class_balance, paste.size_exponent, paste.max_overlap)
    if not objects.is_usable:
        raise DataError(
            f"{folder}: no object can be copied: it must have {LEAST_SIDE:g} px or more, at most half the side of its "
            "window, lie wholly inside it and clear of other objects and ignored regions; "
            "set data.augment.copy_paste.probability=0"
        )
    return CopyPaste(
        objects,
        probability=paste.probability,
        max_objects=paste.max_objects,
        scale_jitter=paste.scale_jitter,
        max_overlap=paste.max_overlap,
        mirrored=augment.horizontal_flip,
        seed=config.train.seed,
    )
