"""Classification losses for sigmoid scores, each as published, including its gradient.

Every loss takes the same arguments and returns one value (…, K) for each logit:

    logits (…, K): logits of every prediction and class.
    positive (…, K): True for the class of the object that the prediction is assigned to.
    quality (…, K): IoU of the predicted box with that object, without gradient; 0 elsewhere.

Legend: p score, σ(logit); q quality; bce(p, y) = -y log p - (1 - y) log(1 - p); γ exponent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor
from torch.nn import functional as F

from mrqm.config.sections.loss import ClassificationLossName

ClassificationLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


def quality_focal_loss(logits: Tensor, positive: Tensor, quality: Tensor) -> Tensor:
    """Compute the quality focal loss (Li et al., 2020, eq. 2): |q - p|^γ bce(p, q) with γ = 2.

    The gradient passes through both factors.

    Args:
        logits: (…, K) logits of every prediction and class.
        positive: (…, K) True for the class of the assigned object; part of the common signature, not used here.
        quality: (…, K) IoU of positives, 0 elsewhere.

    Returns:
        (…, K) loss of each logit.
    """
    modulation = (quality - logits.sigmoid()).abs().square()
    return modulation * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def varifocal_loss(logits: Tensor, positive: Tensor, quality: Tensor) -> Tensor:
    """Compute the varifocal loss (Zhang et al., 2021, eq. 2), α = 0.75, γ = 2.

    q bce(p, q) of positives, α p^γ bce(p, 0) of negatives.

    Args:
        logits: (…, K) logits of every prediction and class.
        positive: (…, K) True for the class of the assigned object.
        quality: (…, K) IoU of positives, 0 elsewhere.

    Returns:
        (…, K) loss of each logit.
    """
    weight = quality.where(positive, 0.75 * logits.sigmoid().square())
    return weight * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def matchability_aware_loss(logits: Tensor, positive: Tensor, quality: Tensor) -> Tensor:
    """Compute the matchability-aware loss (Huang et al., 2025), γ = 1.5.

    bce(p, q^γ) of positives, p^γ bce(p, 0) of negatives.

    Args:
        logits: (…, K) logits of every prediction and class.
        positive: (…, K) True for the class of the assigned object.
        quality: (…, K) IoU of positives, 0 elsewhere.

    Returns:
        (…, K) loss of each logit.
    """
    weight = logits.sigmoid().pow(1.5).masked_fill(positive, 1.0)
    return weight * F.binary_cross_entropy_with_logits(logits, quality.pow(1.5), reduction="none")


CLASSIFICATION_LOSSES: dict[ClassificationLossName, ClassificationLoss] = {
    "quality_focal": quality_focal_loss,
    "varifocal": varifocal_loss,
    "matchability_aware": matchability_aware_loss,
}
