"""Box measures and moves that torchvision.ops lacks: deltas, matched pairs, coverage."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert

LARGEST_LOG_GROWTH = 4.0  # exp(4) ≈ 55 times the anchor: keeps an untrained head finite


def to_xyxy(boxes: Tensor) -> Tensor:
    """(…, 4) cxcywh → (…, 4) xyxy; `box_convert` goes by coordinate, in twice as many operations."""
    centers, halves = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centers - halves, centers + halves], -1)


def to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """(…, 4) xyxy → (…, 4) cxcywh."""
    return box_convert(boxes_xyxy, "xyxy", "cxcywh")


def apply_deltas(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Move cxcywh boxes (…, 4) by deltas (…, 4): centers by shares of a side, sides by their logarithm.

    Relative to the box as in R-CNN (Girshick et al., 2014), also where DINO adds deltas to logits of the whole image:
    there a px of a tiny object is a minute and place-dependent change of a logit. Full precision also under autocast.
    """
    deltas = deltas.to(torch.promote_types(deltas.dtype, torch.float32))
    centers = anchors[..., :2] + deltas[..., :2] * anchors[..., 2:]
    sides = anchors[..., 2:] * deltas[..., 2:].clamp(max=LARGEST_LOG_GROWTH).exp()
    return torch.cat([centers, sides], -1)


def paired_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (Rezatofighi et al., 2019) of boxes taken pairwise.

    Args:
        a, b: (…, 4) cxcywh, broadcast against each other.

    Returns:
        iou (…), giou (…).
    """
    a, b = to_xyxy(a), to_xyxy(b)
    overlap = _area(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - overlap
    hull = _area(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:]))
    eps = torch.finfo(union.dtype).tiny
    iou = overlap / union.clamp(min=eps)
    return iou, iou - (hull - union) / hull.clamp(min=eps)


def coverage(boxes: Tensor, regions: Tensor) -> Tensor:
    """Largest share of each box that one region covers.

    Args:
        boxes: (…, N, 4) cxcywh.
        regions: (…, M, 4) cxcywh with M > 0; empty regions cover nothing.

    Returns:
        (…, N) in [0, 1].
    """
    boxes, regions = to_xyxy(boxes).unsqueeze(-2), to_xyxy(regions).unsqueeze(-3)
    overlap = _area(torch.maximum(boxes[..., :2], regions[..., :2]), torch.minimum(boxes[..., 2:], regions[..., 2:]))
    area = _area(boxes[..., :2], boxes[..., 2:])
    return (overlap / area.clamp(min=torch.finfo(area.dtype).tiny)).amax(-1)


def _area(top_left: Tensor, bottom_right: Tensor) -> Tensor:
    return (bottom_right - top_left).clamp(min=0).prod(-1)
