"""One annotation model for every format: what the readers return and the dataset is built from."""

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
"""Px by which a box may leave its image because its coordinates were written as rounded shares."""

_BOX_REPAIRS = ("of zero or negative size dropped", "outside the image dropped", "clipped to the image")


class DataError(UserError):
    """Data that cannot be used; the message names the file and what is wrong with it."""


def xywh_to_xyxy(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) left, top, width, height → left, top, right, bottom."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_xywh(boxes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(N, 4) left, top, right, bottom → left, top, width, height."""
    boxes = boxes.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def clip_to_image(boxes_xyxy: NDArray[np.float64], size: tuple[int, int]) -> tuple[NDArray[np.float64], Mask]:
    """Boxes as training can use them: inside their image and with an area.

    Args:
        boxes_xyxy: (N, 4) in px.
        size: (height, width) of the image.

    Returns:
        (N, 4) clipped boxes, and (N,) which of them were proper boxes and still have an area.
    """
    height, width = size
    clipped = boxes_xyxy.clip(0, [width, height, width, height])
    proper = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
    return clipped, np.logical_and(proper, (clipped[:, 2:] > clipped[:, :2]).all(axis=1))


@dataclass(frozen=True)
class ImageRecord:
    """One annotated image: its ground truth, which is scored, and what of it can be trained on.

    Attributes:
        path: the image file.
        image_id: the annotation file's own id of the image, or its position among the sorted images.
        size: (height, width) in native px, as a viewer shows the image (EXIF orientation applied).
        truth: the annotations as they are written.
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
        """(N, 4) xyxy of the usable objects in native px, clipped to the image."""
        return self._clip(self._objects)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) 0-based."""
        return self.truth.labels[self._objects]

    @cached_property
    def ignore_boxes(self) -> NDArray[np.float32]:
        """(M, 4) xyxy in native px, clipped: what training passes over; protocols differ on it."""
        return self._clip(self._ignored)

    @cached_property
    def ignore_labels(self) -> NDArray[np.int64]:
        """(M,) class whose crowd or ignored object it is, `IGNORED_REGION` or `OTHER_OBJECT`."""
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
    """One thing that a reader mended: `where` is `file:line` or `file: entry`, `what` says what was done."""

    where: str
    what: str


@dataclass
class Repairs:
    """What a reader mended for training instead of failing; scores take the annotations as they are.

    Attributes:
        degenerate, outside, clipped: counts of boxes, ignored regions included.
        log: every repair with its place, those of text and files included, in the order of reading.
        scored: what scores depend on all the same, because annotations lack it or contradict themselves.
    """

    degenerate: int = 0
    outside: int = 0
    clipped: int = 0
    log: list[Repair] = field(default_factory=list, compare=False)
    scored: list[str] = field(default_factory=list, compare=False)

    def note(self, where: str, what: str) -> None:
        """Keep a repair that is not of a box."""
        self.log.append(Repair(where, what))

    def summary(self) -> str:
        """One line that says what was mended; empty if nothing was."""
        counts = zip(_BOX_REPAIRS, (self.degenerate, self.outside, self.clipped), strict=True)
        return ", ".join(f"{count} {'box' if count == 1 else 'boxes'} {what}" for what, count in counts if count)

    def note_boxes(self, boxes_xywh: NDArray[np.float64], size: tuple[int, int], places: Sequence[str]) -> None:
        """Count the boxes that training will not get as they are, and note where they are.

        Args:
            boxes_xywh: (N, 4) in px.
            size: (height, width) of the image.
            places: (N,) where each box is written, such as `a.txt:3`.
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
    """Everything a reader found in one folder.

    Attributes:
        classes: names in label order.
        records: one per image that has a readable header.
        repairs: what was mended while reading.
        unreadable: images whose header says nothing; they have no record.
    """

    classes: tuple[str, ...]
    records: tuple[ImageRecord, ...]
    repairs: Repairs = field(default_factory=Repairs)
    unreadable: tuple[Path, ...] = ()


def require_folder(folder: Path) -> None:
    """Raise `DataError` unless the folder exists."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; data.root, data.train and data.val say where the images are")


def require_none(paths: Sequence[Path], fault: str) -> None:
    """Raise `DataError` with the fault, how many paths have it and the first, if there are any."""
    if paths:
        raise DataError(f"{fault}: {len(paths)} of them, first {paths[0]}")


def _format_box(box_xyxy: NDArray[np.float64]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in box_xyxy)}]"
