"""Detections between a model's tensors and the numbers that are scored."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import box_convert

from mrqm.structures.detections import Detections, DetectionTensors


def random_tensors(count: int) -> DetectionTensors:
    generator = torch.Generator().manual_seed(count)
    corners = torch.rand(count, 2, generator=generator) * 500
    boxes = torch.cat([corners, corners + 1 + torch.rand(count, 2, generator=generator) * 90], dim=1)
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    return {"boxes": boxes, "scores": scores, "labels": torch.randint(0, 9, (count,), generator=generator)}


def test_tensors_become_left_top_width_height_in_double_precision() -> None:
    tensors = random_tensors(50)
    found = Detections.from_tensors(tensors)
    expected = box_convert(tensors["boxes"].double(), "xyxy", "xywh").numpy()
    np.testing.assert_array_equal(found.boxes_xywh, expected)
    assert (found.boxes_xywh.dtype, found.scores.dtype, found.labels.dtype) == (np.float64, np.float64, np.int64)


def test_a_models_tensors_come_back() -> None:
    for count in (0, 1, 50):
        tensors = random_tensors(count)
        again = Detections.from_tensors(tensors).to_tensors()
        for name, values in tensors.items():
            torch.testing.assert_close(again[name].to(values.dtype), values)
        assert len(Detections.from_tensors(tensors)) == count


def test_scores_fall_and_equal_ones_keep_their_order() -> None:
    boxes = np.arange(16, dtype=np.float64).reshape(4, 4)
    found = Detections(boxes, np.array([0.2, 0.7, 0.2, 0.9]), np.array([0, 1, 2, 3])).by_falling_score()
    assert found.labels.tolist() == [3, 1, 0, 2]
    np.testing.assert_array_equal(found.boxes_xywh, boxes[[3, 1, 0, 2]])


def test_detections_are_taken_by_index_and_by_mask() -> None:
    found = Detections.from_tensors(random_tensors(6))
    mask = found.labels > 3
    for chosen in (np.flatnonzero(mask), mask):
        taken = found.take(chosen)
        np.testing.assert_array_equal(taken.boxes_xywh, found.boxes_xywh[mask])
        np.testing.assert_array_equal(taken.scores, found.scores[mask])
