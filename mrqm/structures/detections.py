"""Detections of an image: tensors as a model returns them, and arrays as they are scored and written.

Result files and benchmarks state boxes as left, top, width, height. Half of the boxes with decimals do not survive the
conversion to corners and back in float64, which decides overlaps that lie on a threshold; hence the two box formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrqm.structures.annotations import xywh_to_xyxy, xyxy_to_xywh
from mrqm.structures.window import Window

DetectionTensors = dict[str, Tensor]
"""Detections as torchvision's detectors return them: `boxes` (K, 4) xyxy px, `scores` (K,), `labels` (K,)."""


@dataclass(frozen=True)
class Detections:
    """Detections of one image as they are scored and written.

    Attributes:
        boxes_xywh: (K, 4) float64 boxes: left, top, width, height in native px, as in result files.
        scores: (K,) float64 scores in descending order.
        labels: (K,) int64 labels, 0-based.
    """

    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Convert a model's detections to the form that is scored and written.

        Args:
            tensors: `boxes` (K, 4) xyxy in native px, `scores` (K,) in descending order, `labels` (K,).

        Returns:
            The detections in host memory.
        """
        boxes, scores, labels = (tensors[key].detach().cpu() for key in ("boxes", "scores", "labels"))
        return cls(xyxy_to_xywh(boxes.numpy()), scores.double().numpy(), labels.numpy())

    def to_tensors(self) -> DetectionTensors:
        """Convert to `boxes` (K, 4) float32 xyxy in native px, `scores` (K,) float64, `labels` (K,)."""
        boxes = torch.from_numpy(xywh_to_xyxy(self.boxes_xywh)).float()
        return {"boxes": boxes, "scores": torch.from_numpy(self.scores), "labels": torch.from_numpy(self.labels)}

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """Select the detections with the given indices, in their order, or those of a mask."""
        return type(self)(self.boxes_xywh[chosen], self.scores[chosen], self.labels[chosen])

    def by_falling_score(self) -> Self:
        """Sort the detections in descending order of score; equal ones keep their order."""
        return self.take(np.argsort(-self.scores, kind="stable"))


class WindowDetections(NamedTuple):
    """Detections of one window; boxes in px of the image, not of the window."""

    window: Window
    detections: DetectionTensors
