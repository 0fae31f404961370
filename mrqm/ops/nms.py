"""Non-maximum suppression of a batch, as one operator that `torch.export` and `torch.compile` do not look into.

torchvision's operator returns as many rows as it keeps, a shape that no exported graph can plan for. This one has a
fixed shape; `pipelines.export.onnx` defines its translation to ONNX.

Legend: B batch, N boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms


@torch.library.custom_op("mrqm::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, num_groups: int, iou: float) -> Tensor:
    """Select the boxes that no better selected box of the same image and group overlaps by more than `iou`.

    Args:
        boxes: (B, N, 4) boxes, xyxy.
        scores: (B, N) scores; the first of equal ones is the better.
        groups: (B, N) int64 group numbers from 0 to `num_groups` - 1.
        num_groups: number of groups.
        iou: IoU threshold in (0, 1].

    Returns:
        (B, N) bool, True for selected boxes; undefined for boxes of score -inf.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for row, *image in zip(kept, boxes, scores, groups, strict=True):  # rounding is independent of other images
        row[batched_nms(*image, iou)] = True
    return kept


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, groups: Tensor, num_groups: int, iou: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)
