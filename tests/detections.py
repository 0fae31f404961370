"""Detections by hand, and two windows that share a strip."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mrqm.structures.detections import DetectionTensors
from mrqm.structures.window import Window

LEFT, RIGHT = Window(0, 0, 100, 100), Window(70, 0, 100, 100)  # of an image of 170 × 100 px


def found(
    *boxes: Sequence[float], scores: Sequence[float] | None = None, labels: Sequence[int] | None = None
) -> DetectionTensors:
    count = len(boxes)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor([0.9] * count if scores is None else scores),
        "labels": torch.tensor([0] * count if labels is None else labels, dtype=torch.int64),
    }
