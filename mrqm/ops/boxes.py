"""Box operations that torchvision.ops lacks: deltas, pairwise IoU, coverage."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert

LARGEST_LOG_GROWTH = 4.0  # exp(4) ≈ 55 times the anchor: keeps an untrained head finite


def to_xyxy(boxes: Tensor) -> Tensor:
    """Convert (…, 4) cxcywh boxes to (…, 4) xyxy, with half as many operations as `box_convert`."""
    centers, halves = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centers - halves, centers + halves], -1)


def to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """Convert (…, 4) xyxy boxes to (…, 4) cxcywh."""
    return box_convert(boxes_xyxy, "xyxy", "cxcywh")


def apply_deltas(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Move boxes by predicted deltas: centers by fractions of a side, sides by the logarithm of their ratio.

    Deltas are relative to the box as in R-CNN (Girshick et al., 2014), while DINO adds them to logits over the whole
    image, where one px of a tiny object is a small and position-dependent change. Computed in float32 also under
    autocast.

    Args:
        deltas: (…, 4) dx, dy, dw, dh.
        anchors: (…, 4) boxes to move, cxcywh.

    Returns:
        (…, 4) moved boxes, cxcywh, float32.
    """
    deltas = deltas.to(torch.promote_types(deltas.dtype, torch.float32))
    centers = anchors[..., :2] + deltas[..., :2] * anchors[..., 2:]
    sides = anchors[..., 2:] * deltas[..., 2:].clamp(max=LARGEST_LOG_GROWTH).exp()
    return torch.cat([centers, sides], -1)


def paired_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Compute IoU and generalised IoU (Rezatofighi et al., 2019) of pairs of boxes.

    Args:
        a: (…, 4) first boxes, cxcywh.
        b: (…, 4) second boxes, cxcywh, broadcast against the first.

    Returns:
        IoU (…) in [0, 1] and generalised IoU (…) in [-1, 1].
    """
    a, b = to_xyxy(a), to_xyxy(b)
    overlap = _area(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - overlap
    hull = _area(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:]))
    eps = torch.finfo(union.dtype).tiny
    iou = overlap / union.clamp(min=eps)
    return iou, iou - (hull - union) / hull.clamp(min=eps)


def coverage(boxes: Tensor, regions: Tensor) -> Tensor:
    """Compute the largest share of each box's area that one region covers.

    Args:
        boxes: (…, N, 4) boxes, cxcywh.
        regions: (…, M, 4) regions with M > 0, cxcywh; empty regions cover nothing.

    Returns:
        (…, N) shares in [0, 1].
    """
    boxes, regions = to_xyxy(boxes).unsqueeze(-2), to_xyxy(regions).unsqueeze(-3)
    overlap = _area(torch.maximum(boxes[..., :2], regions[..., :2]), torch.minimum(boxes[..., 2:], regions[..., 2:]))
    area = _area(boxes[..., :2], boxes[..., 2:])
    return (overlap / area.clamp(min=torch.finfo(area.dtype).tiny)).amax(-1)


def _area(top_left: Tensor, bottom_right: Tensor) -> Tensor:
    return (bottom_right - top_left).clamp(min=0).prod(-1)
