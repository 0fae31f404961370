"""The picture of an evaluation's worst images."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mrqm.evaluation.analysis.outcomes import RIGHT, find_outcomes
from mrqm.inference.dataset_inference import DatasetPredictions
from mrqm.ops.boxes import to_cxcywh
from mrqm.visualization.detections import draw_comparison

CONFIDENT = 0.3
"""Minimum score of detections in the picture."""
WORST = 6
"""Number of images in the picture."""


def draw_worst(found: DatasetPredictions) -> Image.Image:
    """Draw the images with most missed objects and confident wrong detections, beside their annotations."""
    errors = []
    for record, detections in zip(found.records, found.detections, strict=True):
        outcomes = find_outcomes([record], [detections], len(found.classes))
        wrong = (outcomes.kinds != RIGHT) & (outcomes.scores >= CONFIDENT)
        errors.append(int(wrong.sum()) + int((~outcomes.found).sum()))
    chosen = np.argsort(-np.array(errors), kind="stable")[:WORST].tolist()
    images, shown, targets = [], [], []
    for index in chosen:
        image, record, detections = found.read_image(index), found.records[index], found.detections[index]
        images.append(image)
        shown.append(detections.to_tensors())
        targets.append(
            {
                "boxes": _normalised(record.boxes, record.size),
                "labels": torch.from_numpy(record.labels),
                "ignore_boxes": _normalised(record.ignore_boxes, record.size),
                "orig_size": torch.tensor(record.size),
                "size": torch.tensor(image.shape[1:]),
            }
        )
    return draw_comparison(images, shown, targets, found.classes, min_score=CONFIDENT)


def _normalised(boxes: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Convert boxes (N, 4) from xyxy in px to normalised cxcywh."""
    return to_cxcywh(torch.from_numpy(boxes)) / torch.tensor(size).flip(0).repeat(2)
