"""Classification losses of a detector whose scores are sigmoids, each as published, gradient included.

Every loss takes the same arguments and returns one value for each logit:

    logits (…, K): of every prediction and class.
    positive (…, K): True where the prediction answers for an object of the class.
    quality (…, K): IoU of the predicted box with that object, without gradient; 0 elsewhere.

Legend: p score, σ(logit); q quality; bce(p, y) = -y log p - (1 - y) log(1 - p); γ exponent and α weight of a factor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

ClassificationLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
ClassificationLossName: TypeAlias = Literal["focal", "quality_focal", "varifocal", "matchability_aware"]


def focal_loss(logits: Tensor, positive: Tensor, quality: Tensor) -> Tensor:
    """Focal loss (Lin et al., 2017), α = 0.25, γ = 2: targets are 0 and 1 whatever the quality."""
    return sigmoid_focal_loss(logits, positive.to(logits.dtype), alpha=0.25, gamma=2.0)


def quality_focal_loss(logits: Tensor, positive: Tensor, quality: Tensor) -> Tensor:
    """Quality focal loss (Li et al., 2020), γ = 2: |q - p|^γ bce(p, q); the gradient passes through both factors."""
    modulation = (quality - logits.sigmoid()).abs().square()
    return modulation * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def varifocal_loss(logits: Tensor, positive: Tensor, quality: Tensor) -> Tensor:
    """Varifocal loss (Zhang et al., 2021), α = 0.75, γ = 2: q bce(p, q) of positives, α p^γ bce(p, 0) of negatives."""
    weight = quality.where(positive, 0.75 * logits.sigmoid().square())
    return weight * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def matchability_aware_loss(logits: Tensor, positive: Tensor, quality: Tensor) -> Tensor:
    """Matchability-aware loss (Huang et al., 2025), γ = 1.5: bce(p, q^γ) of positives, p^γ bce(p, 0) of negatives."""
    weight = logits.sigmoid().pow(1.5).masked_fill(positive, 1.0)
    return weight * F.binary_cross_entropy_with_logits(logits, quality.pow(1.5), reduction="none")


CLASSIFICATION_LOSSES: dict[ClassificationLossName, ClassificationLoss] = {
    "focal": focal_loss,
    "quality_focal": quality_focal_loss,
    "varifocal": varifocal_loss,
    "matchability_aware": matchability_aware_loss,
}
