"""What was found in images, whoever found it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageDetections:
    """Detections of one image.

    Attributes:
        boxes: (K, 4) float64 xyxy in native px.
        scores: (K,) float64, falling.
        labels: (K,) int64, 0-based.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
