"""Location of images and annotations, and their conversion to tensors."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mrqm.config.sections.annotations import RenamedFrom, Role, Roles
from mrqm.config.sections.section import Count, CountOrZero, Fraction, NonNegative, Positive, Section

DataFormat: TypeAlias = Literal["visdrone", "coco", "soda-d", "yolo"]


def _folder_or_uri(value: Any) -> Any:
    """Keep a URI as text, because a path would drop one of its slashes."""
    return Path(value) if isinstance(value, str) and "://" not in value else value


FolderOrUri = Annotated[Path | str, BeforeValidator(_folder_or_uri)]


class ResizeConfig(Section):
    """Sides of the images that the model takes; the aspect ratio is kept."""

    short_side: Count = 800
    """Length of the shorter side in px, unless the longer one would exceed max_side."""
    max_side: Annotated[Count, Roles(Role.INFERENCE)] = 1333
    """Greatest length of the longer side in px."""

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
    """Overlap of neighbouring windows in px; the last window of a row or column is shifted back to the border."""
    min_area_ratio: Annotated[Fraction, RenamedFrom("data.tile.min_visible")] = 0.4
    """Objects with at most this share of their area inside a window become ignored regions there."""
    empty_fraction: Annotated[Fraction, RenamedFrom("data.tile.keep_empty")] = 0.0
    """Fraction of the training windows without objects that is kept; evaluation keeps all."""
    blackout_ignored: bool = False
    """Paint ignored regions black except where an object lies over them, as SODA-D does."""

    @model_validator(mode="after")
    def _windows_advance(self) -> Self:
        if self.overlap >= self.size:
            raise ValueError(f"overlap={self.overlap} must be below size={self.size}; change data.tile.overlap")
        return self


def _ordered(zooms: tuple[float, float]) -> tuple[float, float]:
    if zooms[0] > zooms[1]:
        raise ValueError(f"scale_jitter={list(zooms)} must be [least, most]")
    return zooms


ZoomRange = Annotated[tuple[Positive, Positive], Field(min_length=2, max_length=2), AfterValidator(_ordered)]


class CopyPasteConfig(Section):
    """Copies of training objects in other images: more of rare classes and of small objects."""

    probability: Fraction = 0.0
    """Probability that an image gets copies of objects."""
    max_objects: Count = 8
    """Greatest number of copies in an image; the number is uniform from 1."""
    class_balance: Fraction = 0.5
    """Balance of classes: a class of n objects is copied in proportion to n^(1 - class_balance); 1 copies all alike."""
    size_exponent: NonNegative = 0.5
    """Preference for small objects: of a class, an object of side s is copied in proportion to s^-size_exponent."""
    scale_jitter: ZoomRange = (0.8, 1.25)
    """Range [least, most] of a random zoom factor of a copy, log-uniform."""
    max_overlap: Fraction = 0.1
    """Greatest area that a copy and an object or ignored region have in common, as a share of the smaller of both."""


class AugmentConfig(Section):
    """Augmentation of training images; the defaults are the paper's: a random flip only."""

    horizontal_flip: Fraction = 0.5
    """Probability of a left-right flip."""
    vertical_flip: Fraction = 0.0
    """Probability of an up-down flip; for images from above."""
    quarter_turns: Fraction = 0.0
    """Probability of a turn by 90, 180 or 270°, each as likely; for images from above."""
    scale_jitter: ZoomRange = (1.0, 1.0)
    """Range [least, most] of a random zoom factor, log-uniform."""
    random_crop: bool = False
    """Random positions of training windows instead of the tiles' grid; needs data.tile."""
    color_jitter: Fraction = 0.0
    """Strength of random changes of brightness, contrast and saturation; 0 turns them off."""
    grayscale: Fraction = 0.0
    """Probability of grey instead of colours."""
    blur: Fraction = 0.0
    """Probability of a Gaussian blur, by 0.3 to 1.2 px."""
    noise: Fraction = 0.0
    """Probability of Gaussian noise, of 2 to 12 grey levels."""
    jpeg: Fraction = 0.0
    """Probability of a JPEG compression, of quality 40 to 95."""
    mosaic: Fraction = 0.0
    """Probability that four images, cut but not shrunk, are joined to one of a single image's size."""
    mixup: Fraction = 0.0
    """Probability that another image is mixed in, at 40 to 60 %; the objects of both count."""
    copy_paste: CopyPasteConfig = CopyPasteConfig()
    until: Fraction = 1.0
    """Share of the training after which mosaic, mixup, copy_paste, grayscale, blur, noise and jpeg are turned off."""


class DataConfig(Section):
    """Location of images and annotations, and their conversion to tensors."""

    format: Annotated[DataFormat, Roles(Role.DATA, Role.SHARED)] = "visdrone"
    """Annotation format: `visdrone` (images + annotations/*.txt), `coco` (images + a json), `soda-d` (raw) or `yolo`
    (images + labels/*.txt).
    """
    root: Annotated[FolderOrUri, Roles(Role.DATA, Role.SHARED)] = Path("data")
    """Folder that holds the train and val folders, or a URI such as s3://bucket/visdrone, which every node copies."""
    train: Annotated[str, Roles(Role.DATA, Role.SHARED)] = "VisDrone2019-DET-train"
    """Training folder under root."""
    val: Annotated[str, Roles(Role.DATA, Role.SHARED)] = "VisDrone2019-DET-val"
    """Validation folder under root."""
    classes: Annotated[tuple[str, ...] | None, Roles(Role.DATA, Role.SHARED, Role.INFERENCE)] = None
    """Class names in label order; null takes those of the annotation format."""
    scale: Annotated[Annotated[float, Field(gt=0, le=4)], Roles(Role.INFERENCE)] = 1.0
    """Factor by which images are resized."""
    max_side: Count | None = None
    """Greatest length of the longer side in px after `scale`; larger images are shrunk to it. Not used with tiles."""
    resize: Annotated[ResizeConfig | None, Roles(Role.INFERENCE)] = None
    """Resizing of images to given sides, as in mmdetection, instead of `scale` and `max_side`; null turns it off."""
    tile: Annotated[TileConfig | None, Roles(Role.INFERENCE)] = None
    """Windows cut out of the resized images; null feeds whole images."""
    augment: AugmentConfig = AugmentConfig()
    repeat_threshold: Fraction = 0.0
    """Share of the training items below which a class is rare: those with it come √(threshold / share) times in an
    epoch (Gupta et al., 2019, LVIS); 0 repeats nothing.
    """
    loader_workers: Annotated[CountOrZero, Roles(Role.RUNTIME)] = 2
    """Number of processes per training worker that read images; 0 reads in the training process."""
    cache_mb: Annotated[CountOrZero, Roles(Role.RUNTIME)] = 512
    """Memory for decoded images in MiB, per reading process."""
    max_unreadable: Annotated[CountOrZero, Roles(Role.RUNTIME)] = 0
    """Number of images that may fail to decode before the run stops; each is named and skipped."""
    cache_dir: Annotated[Path, Roles(Role.RUNTIME), RenamedFrom("data.copies")] = Path("~/.cache/mrqm/data")
    """Folder on every node for copies of data at URIs."""
    cache_max_gb: Annotated[Positive, Roles(Role.RUNTIME), RenamedFrom("data.copies_gb")] = 100.0
    """Greatest total size of the copies on a node in GB; the least recently used are removed for new ones."""

    @property
    def name(self) -> str:
        """Last part of root."""
        return PurePosixPath(self.root).name

    @property
    def folder(self) -> Path:
        """Local folder of the data: root, or this node's copy of it."""
        if isinstance(self.root, Path):
            return self.root
        return self.cache_dir.expanduser() / f"{self.name}-{hashlib.sha256(self.root.encode()).hexdigest()[:8]}"

    @property
    def longest_side(self) -> int | None:
        """Greatest side of a whole image in px; None if it is not bounded."""
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
            raise ValueError("augment.random_crop=true needs data.tile, which sets the size of the crops")
        return self
