"""Where images and annotations are and how they become tensors."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from mrqm.config.sections.annotations import RenamedFrom, Role, Roles
from mrqm.config.sections.section import Count, CountOrZero, Fraction, Positive, Section

DataFormat: TypeAlias = Literal["visdrone", "coco", "soda-d", "yolo"]


def _folder_or_uri(value: Any) -> Any:
    """A URI stays text: as a path it would lose a slash."""
    return Path(value) if isinstance(value, str) and "://" not in value else value


FolderOrUri = Annotated[Path | str, BeforeValidator(_folder_or_uri)]


class ResizeConfig(Section):
    """Sides of the images at which the model looks; the ratio of height and width is kept."""

    short_side: Count = 800
    """Px that the shorter side becomes, unless the longer one would exceed max_side."""
    max_side: Annotated[Count, Roles(Role.INFERENCE)] = 1333
    """Most px of the longer side."""

    @model_validator(mode="after")
    def _sides_are_ordered(self) -> Self:
        if self.max_side < self.short_side:
            raise ValueError(
                f"max_side={self.max_side} must be at least short_side={self.short_side}; change data.resize"
            )
        return self


class TileConfig(Section):
    """Windows cut from large images while they are read."""

    size: Count = 800
    """Side of the square window in px of the resized image."""
    overlap: CountOrZero = 150
    """Px shared by neighbouring windows; the last of a row or column shifts back to the border."""
    min_area_ratio: Annotated[Fraction, RenamedFrom("data.tile.min_visible")] = 0.4
    """Objects of which at most this share is visible in a window become ignored regions there."""
    empty_fraction: Annotated[Fraction, RenamedFrom("data.tile.keep_empty")] = 0.0
    """Share of training windows without objects that is kept; evaluation keeps all."""
    blackout_ignored: bool = False
    """Paint ignored regions black except where an object lies over them, as SODA-D does."""

    @model_validator(mode="after")
    def _windows_advance(self) -> Self:
        if self.overlap >= self.size:
            raise ValueError(f"overlap={self.overlap} must be below size={self.size}; change data.tile.overlap")
        return self


class AugmentConfig(Section):
    """What training images go through; the defaults are the paper's: a random flip only."""

    horizontal_flip: Fraction = 0.5
    """Probability of a left-right flip."""
    scale_jitter: Annotated[tuple[Positive, Positive], Field(min_length=2, max_length=2)] = (1.0, 1.0)
    """Range of a random zoom, log-uniform."""
    random_crop: bool = False
    """Whether training windows sit at random positions instead of the tiles' grid."""
    color_jitter: Fraction = 0.0
    """Strength of random brightness, contrast and saturation."""

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        if self.scale_jitter[0] > self.scale_jitter[1]:
            raise ValueError(f"scale_jitter={list(self.scale_jitter)} must be [least, most]")
        return self


class DataConfig(Section):
    """Where images and annotations are and how they become tensors."""

    format: Annotated[DataFormat, Roles(Role.DATA, Role.SHARED)] = "visdrone"
    """`visdrone` images + annotations/*.txt; `coco` images + a json; `soda-d` raw; `yolo` images + labels/*.txt."""
    root: Annotated[FolderOrUri, Roles(Role.DATA, Role.SHARED)] = Path("data")
    """Folder that holds the train and val folders, or its URI, such as s3://bucket/visdrone, that every node copies."""
    train: Annotated[str, Roles(Role.DATA, Role.SHARED)] = "VisDrone2019-DET-train"
    """Training folder under root."""
    val: Annotated[str, Roles(Role.DATA, Role.SHARED)] = "VisDrone2019-DET-val"
    """Validation folder under root."""
    classes: Annotated[tuple[str, ...] | None, Roles(Role.DATA, Role.SHARED, Role.INFERENCE)] = None
    """Class names in label order; null takes the annotation format's own."""
    scale: Annotated[Annotated[float, Field(gt=0, le=4)], Roles(Role.INFERENCE)] = 1.0
    """Images are resized by this factor."""
    max_side: Count | None = None
    """Images whose longer side is above this after `scale` are shrunk to it; not used with tiles."""
    resize: Annotated[ResizeConfig | None, Roles(Role.INFERENCE)] = None
    """Enlarge or shrink images to sides of these px, as mmdetection does, instead of `scale` and `max_side`."""
    tile: Annotated[TileConfig | None, Roles(Role.INFERENCE)] = None
    """Cut windows out of the resized images; null feeds whole images."""
    augment: AugmentConfig = AugmentConfig()
    loader_workers: Annotated[CountOrZero, Roles(Role.RUNTIME)] = 2
    """Processes per training worker that read images; 0 reads in the training process."""
    cache_mb: Annotated[CountOrZero, Roles(Role.RUNTIME)] = 512
    """Decoded images kept in memory per reading process."""
    max_unreadable: Annotated[CountOrZero, Roles(Role.RUNTIME)] = 0
    """Images that may fail to decode, each named and skipped, before the run stops."""
    cache_dir: Annotated[Path, Roles(Role.RUNTIME), RenamedFrom("data.copies")] = Path("~/.cache/mrqm/data")
    """Folder on every node for copies of data at URIs."""
    cache_max_gb: Annotated[Positive, Roles(Role.RUNTIME), RenamedFrom("data.copies_gb")] = 100.0
    """Most that the copies on a node take together; those used longest ago are removed for new ones."""

    @property
    def name(self) -> str:
        """Last part of root."""
        return PurePosixPath(self.root).name

    @property
    def folder(self) -> Path:
        """Where the data is read: root, or this node's copy of it."""
        if isinstance(self.root, Path):
            return self.root
        return self.cache_dir.expanduser() / f"{self.name}-{hashlib.sha256(self.root.encode()).hexdigest()[:8]}"

    @property
    def longest_side(self) -> int | None:
        """Most px of a side of a whole image; None if they are not bounded."""
        return self.max_side if self.resize is None else self.resize.max_side

    @model_validator(mode="after")
    def _one_rule_sets_the_size(self) -> Self:
        for key, neutral in (("scale", 1), ("max_side", None)):
            if self.resize is not None and (value := getattr(self, key)) != neutral:
                word = "null" if neutral is None else neutral
                raise ValueError(
                    f"{key}={value:g} and resize both set the size of images; set data.resize=null or data.{key}={word}"
                )
        return self

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        if self.classes is not None and len(set(self.classes)) != max(len(self.classes), 1):
            raise ValueError(f"classes={list(self.classes)} must be different names, at least one")
        return self

    @model_validator(mode="after")
    def _crops_have_a_size(self) -> Self:
        if self.augment.random_crop and self.tile is None:
            raise ValueError("augment.random_crop=true needs data.tile, whose size the crops have")
        return self
