"""Annotation model of all formats: readers return it and datasets are built from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrqm.errors import UserError
from mrqm.structures.ground_truth import IGNORED_REGION, OTHER_OBJECT, GroundTruth, Mask

__all__ = [
    "IGNORED_REGION", "OTHER_OBJECT", "ROUNDING", "AnnotationSet", "DataError", "ImageRecord", "Repair", "Repairs",
    "clip_to_image", "require_folder", "require_none", "xywh_to_xyxy", "xyxy_to_xywh",
]  # fmt: skip

ROUNDING = 0.01
"""Distance in px by which a box may leave its image because its coordinates were written as rounded fractions."""

_BOX_REPAIRS = ("of zero or negative size dropped", "outside the image dropped", "clipped to the image")


class DataError(UserError):
    """Data that cannot be used; the message names the file and what is wrong with it."""


def xywh_to_xyxy(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert (N, 4) boxes from left, top, width, height to left, top, right, bottom."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_xywh(boxes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Convert (N, 4) boxes from left, top, right, bottom to left, top, width, height."""
    boxes = boxes.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def clip_to_image(boxes_xyxy: NDArray[np.float64], size: tuple[int, int]) -> tuple[NDArray[np.float64], Mask]:
    """Clip boxes to their image and tell which can be trained on.

    Args:
        boxes_xyxy: (N, 4) boxes in px.
        size: (height, width) of the image in px.

    Returns:
        (N, 4) clipped boxes, and (N,) bool, True for boxes of positive size that still have an area.
    """
    height, width = size
    clipped = boxes_xyxy.clip(0, [width, height, width, height])
    proper = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
    return clipped, np.logical_and(proper, (clipped[:, 2:] > clipped[:, :2]).all(axis=1))


@dataclass(frozen=True)
class ImageRecord:
    """One annotated image: ground truth for evaluation, and the repaired part of it for training.

    Attributes:
        path: image file.
        image_id: id of the image in the annotation file, or its position among the sorted images.
        size: (height, width) in native px, as a viewer shows the image (EXIF orientation applied).
        truth: annotations as written.
    """

    path: Path
    image_id: int | str
    size: tuple[int, int]
    truth: GroundTruth

    @cached_property
    def usable(self) -> NDArray[np.int64]:
        """Indices of the annotations that have an area inside the image."""
        return np.flatnonzero(clip_to_image(xywh_to_xyxy(self.truth.boxes_xywh), self.size)[1])

    @cached_property
    def boxes(self) -> NDArray[np.float32]:
        """(N, 4) boxes of the usable objects, xyxy in native px, clipped to the image."""
        return self._clip(self._objects)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) labels of the usable objects, 0-based."""
        return self.truth.labels[self._objects]

    @cached_property
    def ignore_boxes(self) -> NDArray[np.float32]:
        """(M, 4) regions without loss in training, xyxy in native px, clipped; protocols treat them differently."""
        return self._clip(self._ignored)

    @cached_property
    def ignore_labels(self) -> NDArray[np.int64]:
        """(M,) class of each crowd or ignored object, `IGNORED_REGION` or `OTHER_OBJECT`."""
        return self.truth.labels[self._ignored]

    @property
    def _objects(self) -> NDArray[np.int64]:
        return self.usable[self.truth.is_object[self.usable]]

    @property
    def _ignored(self) -> NDArray[np.int64]:
        return self.usable[~self.truth.is_object[self.usable]]

    def _clip(self, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        clipped, _ = clip_to_image(xywh_to_xyxy(self.truth.boxes_xywh[chosen]), self.size)
        return clipped.astype(np.float32)


class Repair(NamedTuple):
    """One repair by a reader: `where` is `file:line` or `file: entry`, `what` describes the repair."""

    where: str
    what: str


@dataclass
class Repairs:
    """Repairs that a reader made for training instead of failing; evaluation takes the annotations as written.

    Attributes:
        degenerate, outside, clipped: numbers of boxes, including ignored regions.
        log: all repairs in the order of reading, including those of text and files.
        scored: repairs that affect evaluation, because annotations lack a value or contradict themselves.
    """

    degenerate: int = 0
    outside: int = 0
    clipped: int = 0
    log: list[Repair] = field(default_factory=list, compare=False)
    scored: list[str] = field(default_factory=list, compare=False)

    def note(self, where: str, what: str) -> None:
        """Log a repair of something other than a box.

        Args:
            where: place, as `file:line` or `file: entry`.
            what: description of the repair.
        """
        self.log.append(Repair(where, what))

    def summary(self) -> str:
        """Summarise the repaired boxes in one line; empty if there are none."""
        counts = zip(_BOX_REPAIRS, (self.degenerate, self.outside, self.clipped), strict=True)
        return ", ".join(f"{count} {'box' if count == 1 else 'boxes'} {what}" for what, count in counts if count)

    def note_boxes(self, boxes_xywh: NDArray[np.float64], size: tuple[int, int], places: Sequence[str]) -> None:
        """Count and log the boxes that training gets changed or not at all.

        Args:
            boxes_xywh: (N, 4) boxes in px.
            size: (height, width) of the image in px.
            places: (N,) place of each box, such as `a.txt:3`.
        """
        boxes = xywh_to_xyxy(boxes_xywh)
        clipped, kept = clip_to_image(boxes, size)
        proper = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        faults = (~proper, proper & ~kept, kept & (abs(clipped - boxes) >= ROUNDING).any(axis=1))
        self.degenerate, self.outside, self.clipped = (
            count + int(found.sum())
            for count, found in zip((self.degenerate, self.outside, self.clipped), faults, strict=True)
        )
        for found, what in zip(faults, _BOX_REPAIRS, strict=True):
            for index in np.flatnonzero(found).tolist():
                self.note(places[index], f"box {_format_box(boxes[index])} {what}")


@dataclass(frozen=True)
class AnnotationSet:
    """Annotations of one folder.

    Attributes:
        classes: class names in label order.
        records: one record per image with a readable header.
        repairs: repairs made while reading.
        unreadable: images without a readable header, which have no record.
    """

    classes: tuple[str, ...]
    records: tuple[ImageRecord, ...]
    repairs: Repairs = field(default_factory=Repairs)
    unreadable: tuple[Path, ...] = ()


def require_folder(folder: Path) -> None:
    """Check that a data folder exists.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; set data.root, data.train and data.val to the images' folders")


def require_none(paths: Sequence[Path], fault: str) -> None:
    """Check that no path has a fault.

    Args:
        paths: paths with the fault.
        fault: description of the fault, for the message.

    Raises:
        DataError: there are such paths; the message has the fault, their number and the first.
    """
    if paths:
        raise DataError(f"{fault}: {len(paths)} of them, first {paths[0]}")


def _format_box(box_xyxy: NDArray[np.float64]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in box_xyxy)}]"
