"""Detections of an image and of a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrqm.structures.annotations import xyxy_to_xywh
from mrqm.structures.window import Window


@dataclass(frozen=True)
class ImageDetections:
    """Detections of one image.

    Attributes:
        boxes_xywh: (K, 4) float64 boxes: left, top, width, height in native px, as in result files.
        scores: (K,) float64 scores in descending order.
        labels: (K,) int64 labels, 0-based.
    """

    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]

    def take(self, chosen: NDArray[np.int64]) -> ImageDetections:
        """Select the detections with the given indices, in their order."""
        return ImageDetections(self.boxes_xywh[chosen], self.scores[chosen], self.labels[chosen])


def to_image_detections(detections: Mapping[str, Tensor]) -> ImageDetections:
    """Convert a model's detections to the form that is scored and written.

    Args:
        detections: `boxes` (K, 4) xyxy in native px, `scores` (K,) in descending order, `labels` (K,).

    Returns:
        The detections in host memory.
    """
    boxes, scores, labels = (detections[key].detach().cpu() for key in ("boxes", "scores", "labels"))
    return ImageDetections(xyxy_to_xywh(boxes.numpy()), scores.double().numpy(), labels.numpy())


Detections = dict[str, Tensor]


class WindowDetections(NamedTuple):
    """Detections of one window; boxes in px of the image, not of the window."""

    window: Window
    detections: Detections
