"""Non-maximum suppression of a batch, as one operator that `torch.export` and `torch.compile` see as a whole.

torchvision's answer has as many rows as are kept, which no exported graph with other shapes to come can be planned for.
This one has a fixed shape; `pipelines.export.onnx` says what it is in ONNX.

Legend: B batch, N boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms


@torch.library.custom_op("mrqm::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, num_groups: int, iou: float) -> Tensor:
    """Which boxes are kept: those that no better kept one of the same image and group overlaps by more than `iou`.

    Args:
        boxes: (B, N, 4) xyxy.
        scores: (B, N); of equal ones the first is the better.
        groups: (B, N), int64 from 0 to `num_groups` - 1.
        num_groups: how many there are.
        iou: from where on two boxes are one.

    Returns:
        (B, N) bool. Whether a box with the score -inf is kept is not said.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for row, *image in zip(kept, boxes, scores, groups, strict=True):  # no image's rounding depends on the others
        row[batched_nms(*image, iou)] = True
    return kept


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, groups: Tensor, num_groups: int, iou: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)
