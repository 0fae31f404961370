"""Reference losses as published, number by number in float64, for values and, by autograd, gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def cross_entropy(logit: Tensor, target: float) -> Tensor:
    """Compute -y log p - (1 - y) log(1 - p); log(1 - p) as that of σ(-x), which float64 can tell from 0."""
    return -target * torch.log(torch.sigmoid(logit)) - (1 - target) * torch.log(torch.sigmoid(-logit))


def quality_focal(logit: Tensor, quality: float | None) -> Tensor:
    """Compute Li et al. (2020), eq. 2: -|y - σ|^2 ((1 - y) log(1 - σ) + y log σ)."""
    target = quality or 0.0
    return torch.abs(target - torch.sigmoid(logit)) ** 2 * cross_entropy(logit, target)


def focal(logit: Tensor, positive: bool) -> Tensor:
    """Focal loss with alpha 0.25 and gamma 2 (Lin et al., 2017, eq. 5)."""
    p = torch.sigmoid(logit)
    return -0.25 * (1 - p) ** 2 * p.log() if positive else -0.75 * p**2 * (1 - p).log()


def varifocal(logit: Tensor, quality: float | None) -> Tensor:
    """Compute Zhang et al. (2021), eq. 2.

    -q (q log p + (1 - q) log(1 - p)) for positives, -α p^γ log(1 - p) for negatives.
    """
    if quality is None:
        return -0.75 * torch.sigmoid(logit) ** 2 * torch.log(torch.sigmoid(-logit))
    return quality * cross_entropy(logit, quality)


def matchability_aware(logit: Tensor, quality: float | None) -> Tensor:
    """Compute Huang et al. (2025), eq. 2.

    -q^γ log p - (1 - q^γ) log(1 - p) for positives, -p^γ log(1 - p) for negatives.
    """
    if quality is None:
        return -(torch.sigmoid(logit) ** 1.5) * torch.log(torch.sigmoid(-logit))
    return cross_entropy(logit, quality**1.5)


NAIVE_CLASSIFICATION: dict[str, Callable[[Tensor, float | None], Tensor]] = {
    "quality_focal": quality_focal,
    "varifocal": varifocal,
    "matchability_aware": matchability_aware,
}
"""Each takes a logit and the IoU of a positive, or None for a negative."""


def iou_and_giou(a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute IoU, and IoU minus the share of the enclosing box that neither covers (Rezatofighi et al., 2019).

    Args:
        a: center x, center y, width and height of the first box.
        b: the same of the second box.
    """
    left_a, right_a, left_b, right_b = a[0] - a[2] / 2, a[0] + a[2] / 2, b[0] - b[2] / 2, b[0] + b[2] / 2
    top_a, bottom_a, top_b, bottom_b = a[1] - a[3] / 2, a[1] + a[3] / 2, b[1] - b[3] / 2, b[1] + b[3] / 2
    width = torch.minimum(right_a, right_b) - torch.maximum(left_a, left_b)
    height = torch.minimum(bottom_a, bottom_b) - torch.maximum(top_a, top_b)
    overlap = width * height if width > 0 and height > 0 else 0 * width
    union = a[2] * a[3] + b[2] * b[3] - overlap
    hull = (torch.maximum(right_a, right_b) - torch.minimum(left_a, left_b)) * (
        torch.maximum(bottom_a, bottom_b) - torch.minimum(top_a, top_b)
    )
    return overlap / union, overlap / union - (hull - union) / hull


def box_losses(box: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """L1 distance of cxcywh boxes (4,), and 1 - GIoU."""
    l1 = torch.stack([torch.abs(x - y) for x, y in zip(box, truth, strict=True)]).sum()
    return l1, 1 - iou_and_giou(list(box), list(truth))[1]


def refined_box(deltas: Tensor, anchor: Tensor) -> Tensor:
    """An anchor (4,) cxcywh moved by R-CNN's deltas (4,) (Girshick et al., 2014)."""
    x = anchor[0] + deltas[0] * anchor[2]
    y = anchor[1] + deltas[1] * anchor[3]
    return torch.stack([x, y, anchor[2] * torch.exp(deltas[2]), anchor[3] * torch.exp(deltas[3])])
