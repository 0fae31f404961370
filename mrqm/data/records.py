"""One annotation model for every format: what the readers return and the dataset is built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IGNORED_REGION = -1
"""Label of an ignored box where nobody says what is there; it concerns every class."""
OTHER_OBJECT = -2
"""Label of an ignored box around an object of none of the classes."""


class DataError(ValueError):
    """Data that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class ImageRecord:
    """One annotated image.

    Attributes:
        path: the image file.
        image_id: the annotation file's own number of the image, or its position among the sorted images.
        size: (height, width) in native px, as a viewer shows the image (EXIF orientation applied).
        boxes: (N, 4) float32 xyxy in native px, inside the image, wider and higher than 0.
        labels: (N,) int64, 0-based.
        ignore_boxes: (M, 4) float32 xyxy in native px: what training passes over; protocols differ on it.
        ignore_labels: (M,) int64: the class whose crowd or unevaluated object it is, `IGNORED_REGION` or
            `OTHER_OBJECT`.
    """

    path: Path
    image_id: int
    size: tuple[int, int]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore_boxes: NDArray[np.float32]
    ignore_labels: NDArray[np.int64]


@dataclass
class Repairs:
    """What a reader mended instead of failing; counts of boxes, ignored regions included."""

    degenerate: int = 0
    outside: int = 0
    clipped: int = 0

    def summary(self) -> str:
        """One line that says what was mended; empty if nothing was."""
        counts = {
            "of zero or negative size dropped": self.degenerate,
            "outside their image dropped": self.outside,
            "clipped to their image": self.clipped,
        }
        return ", ".join(
            f"{count} {'box' if count == 1 else 'boxes'} {what}" for what, count in counts.items() if count
        )

    def clip(
        self, boxes_xyxy: NDArray[np.float64], size: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Clip boxes to their image, drop those without area, and count both.

        Args:
            boxes_xyxy: (N, 4) in px.
            size: (height, width) of the image.

        Returns:
            (K, 4) float32 clipped boxes, and (N,) which of the given boxes they are.
        """
        height, width = size
        proper = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
        clipped = boxes_xyxy.clip(0, [width, height, width, height])
        kept = np.logical_and(proper, (clipped[:, 2:] > clipped[:, :2]).all(axis=1))
        self.degenerate += int((~proper).sum())
        self.outside += int((proper & ~kept).sum())
        self.clipped += int((kept & (clipped != boxes_xyxy).any(axis=1)).sum())
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
