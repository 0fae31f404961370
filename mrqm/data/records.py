"""One annotation model for every format: what the readers return and the dataset is built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

IGNORED_REGION = -1
"""Label of an ignored box where nobody says what is there; it concerns every class."""
OTHER_OBJECT = -2
"""Label of an ignored box around an object of none of the classes."""


_BOX_REPAIRS = ("of zero or negative size dropped", "outside the image dropped", "clipped to the image")


class DataError(ValueError):
    """Data that cannot be used; the message names the file and what is wrong with it."""


def xywh_to_xyxy(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) left, top, width, height → left, top, right, bottom."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_xywh(boxes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(N, 4) left, top, right, bottom → left, top, width, height."""
    boxes = boxes.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


@dataclass(frozen=True)
class ImageRecord:
    """One annotated image.

    Attributes:
        path: the image file.
        image_id: the annotation file's own id of the image, or its position among the sorted images.
        size: (height, width) in native px, as a viewer shows the image (EXIF orientation applied).
        boxes: (N, 4) float32 xyxy in native px, inside the image, wider and higher than 0.
        labels: (N,) int64, 0-based.
        ignore_boxes: (M, 4) float32 xyxy in native px: what training passes over; protocols differ on it.
        ignore_labels: (M,) int64: the class whose crowd or unevaluated object it is, `IGNORED_REGION` or
            `OTHER_OBJECT`.
    """

    path: Path
    image_id: int | str
    size: tuple[int, int]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore_boxes: NDArray[np.float32]
    ignore_labels: NDArray[np.int64]


class Repair(NamedTuple):
    """One thing that a reader mended: `where` is `file:line` or `file: entry`, `what` says what was done."""

    where: str
    what: str


@dataclass
class Repairs:
    """What a reader mended instead of failing.

    Attributes:
        degenerate, outside, clipped: counts of boxes, ignored regions included.
        log: every repair with its place, those of text and files included, in the order of reading.
    """

    degenerate: int = 0
    outside: int = 0
    clipped: int = 0
    log: list[Repair] = field(default_factory=list, compare=False)

    def note(self, where: str, what: str) -> None:
        """Keep a repair that is not of a box."""
        self.log.append(Repair(where, what))

    def summary(self) -> str:
        """One line that says what was mended; empty if nothing was."""
        counts = zip(_BOX_REPAIRS, (self.degenerate, self.outside, self.clipped), strict=True)
        return ", ".join(f"{count} {'box' if count == 1 else 'boxes'} {what}" for what, count in counts if count)

    def clip(
        self, boxes_xyxy: NDArray[np.float64], size: tuple[int, int], places: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Clip boxes to their image, drop those without area, count both and note where.

        Args:
            boxes_xyxy: (N, 4) in px.
            size: (height, width) of the image.
            places: (N,) where each box is written, such as `a.txt:3`.

        Returns:
            (K, 4) float32 clipped boxes, and (N,) which of the given boxes they are.
        """
        height, width = size
        proper = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
        clipped = boxes_xyxy.clip(0, [width, height, width, height])
        kept = np.logical_and(proper, (clipped[:, 2:] > clipped[:, :2]).all(axis=1))
        faults = (~proper, proper & ~kept, kept & (clipped != boxes_xyxy).any(axis=1))
        self.degenerate, self.outside, self.clipped = (
            count + int(found.sum())
            for count, found in zip((self.degenerate, self.outside, self.clipped), faults, strict=True)
        )
        for found, what in zip(faults, _BOX_REPAIRS, strict=True):
            for index in np.flatnonzero(found).tolist():
                self.note(places[index], f"box {_format_box(boxes_xyxy[index])} {what}")
        return clipped[kept].astype(np.float32), kept


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
