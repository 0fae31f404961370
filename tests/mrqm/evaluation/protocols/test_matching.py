"""IoU of boxes in any memory layout."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import box_iou

from mrqm.evaluation.protocols.matching import overlaps


def test_overlaps_are_torchvisions_whatever_the_layout_and_type_of_the_boxes() -> None:
    rng = np.random.default_rng(0)
    found, objects = (
        np.concatenate([rng.integers(0, 50, (n, 2)), rng.integers(1, 40, (n, 2))], axis=1) for n in (9, 7)
    )
    corners = [
        torch.from_numpy(np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1)).double() for b in (found, objects)
    ]
    expected = box_iou(*corners).numpy()
    plain = np.zeros(7, dtype=bool)
    wide = np.zeros((9, 8))
    wide[:, :4] = found
    for boxes in (
        found.astype(float),
        found,
        np.asfortranarray(found, dtype=float),
        wide[:, :4],
        found.astype(np.float32),
    ):
        np.testing.assert_allclose(overlaps(boxes, objects, plain), expected, atol=1e-12)
