"""A training image in the making: its pixels and boxes between being cut and being normalised."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrqm.data.augmentation.views import View, place_boxes, take_pixels
from mrqm.data.images.tiling import touches
from mrqm.data.images.windows import Item


@dataclass(frozen=True)
class Boxes:
    """Objects and ignored regions of a canvas.

    Attributes:
        xyxy: (N, 4) float32 boxes in px of the canvas, clipped to it.
        labels: (N,) int64 labels, 0-based, or those of ignored regions.
        annotated: (N,) bool, True for objects, False for ignored regions.
        whole: (N,) float64 areas in px² before clipping.
        hidden: (N,) float64 areas in px² under pasted objects.
    """

    xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    annotated: NDArray[np.bool_]
    whole: NDArray[np.float64]
    hidden: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def areas(self) -> NDArray[np.float64]:
        """(N,) areas of the clipped boxes in px²."""
        return box_areas(self.xyxy)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Boxes:
        """Select boxes by a mask or by indices."""
        return Boxes(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def moved(self, left: int, top: int) -> Boxes:
        """Move the boxes.

        Args:
            left: px to the right.
            top: px down.

        Returns:
            The moved boxes.
        """
        return replace(self, xyxy=self.xyxy + np.array([left, top, left, top], np.float32))

    def join(self, *others: Boxes) -> Boxes:
        """Append the boxes of other canvases."""
        every = (self, *others)
        return Boxes(*(np.concatenate([getattr(one, field.name) for one in every]) for field in fields(self)))


@dataclass(frozen=True)
class Canvas:
    """Pixels with their boxes.

    Attributes:
        pixels: (3, H, W) uint8.
        boxes: objects and ignored regions.
    """

    pixels: Tensor
    boxes: Boxes

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in px."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def target(self, min_visible: float) -> dict[str, Tensor]:
        """Sort the boxes into objects and ignored regions, and normalise them.

        An object of which too little is inside and not covered becomes an ignored region, or is dropped if nothing of
        it is left. Ignored regions stay ignored under pasted objects.

        Args:
            min_visible: objects of which at most this fraction is visible become ignored regions.

        Returns:
            Boxes, labels and size of the target; see the tensor vocabulary in `mrqm`.
        """
        boxes, size = self.boxes, np.array(self.size)
        left = boxes.areas - boxes.hidden
        is_object = boxes.annotated & (left / boxes.whole > min_visible)
        is_ignored = ~is_object & (np.where(boxes.annotated, left, boxes.areas) > 0)
        centres = (boxes.xyxy[:, :2] + boxes.xyxy[:, 2:]) / 2
        sides = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
        normalised = np.concatenate([centres, sides], axis=1) / size[[1, 0, 1, 0]].astype(np.float32)
        return {
            "boxes": torch.from_numpy(normalised[is_object]),
            "labels": torch.from_numpy(boxes.labels[is_object]),
            "ignore_boxes": torch.from_numpy(normalised[is_ignored]),
            "ignore_labels": torch.from_numpy(boxes.labels[is_ignored]),
            "size": torch.from_numpy(size),
        }


def cut_canvas(item: Item, view: View, pixels: NDArray[np.uint8], left: int) -> Canvas:
    """Take a view of an item.

    Args:
        item: annotated image.
        view: view in px of the item's scaled image.
        pixels: (3, H, W) uint8 columns of the scaled image that contain the view, not changed.
        left: first of these columns in px of the scaled image.

    Returns:
        The view with all boxes that have an area inside.
    """
    record = item.record
    every = np.concatenate([record.boxes, record.ignore_boxes]) * item.factors
    seen = np.flatnonzero(touches(every, view.window))  # few of those of a large image
    boxes = every[seen]
    zoom = view.size[0] * view.size[1] / (view.window.height * view.window.width)
    return Canvas(
        take_pixels(view, pixels, left),
        Boxes(
            xyxy=place_boxes(view, boxes),
            labels=np.concatenate([record.labels, record.ignore_labels])[seen],
            annotated=seen < len(record.boxes),
            whole=box_areas(boxes) * zoom,
            hidden=np.zeros(len(seen)),
        ),
    )


def box_areas(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the areas of (N, 4) boxes."""
    boxes = boxes_xyxy.astype(np.float64)  # areas of whole px stay exact: 24 of 60 px² are not above 0.4
    areas: NDArray[np.float64] = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return areas
