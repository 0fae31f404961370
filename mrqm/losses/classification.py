"""Classification losses of a detector whose scores are sigmoids, each as published, gradient included.

Every loss takes the same arguments and returns one value for each logit:

    logits (…, K): of every prediction and class.
    positive (…, K): True where the prediction answers for an object of the class.
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
    """Quality focal loss (Li et al., 2020), γ = 2: |q - p|^γ bce(p, q); the gradient passes through both factors."""
    modulation = (quality - logits.sigmoid()).abs().square()
    return modulation * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def matchability_aware_loss(logits: Tensor, positive: Tensor, quality: Tensor) -> Tensor:
    """Matchability-aware loss (Huang et al., 2025), γ = 1.5: bce(p, q^γ) of positives, p^γ bce(p, 0) of negatives."""
    weight = logits.sigmoid().pow(1.5).masked_fill(positive, 1.0)
    return weight * F.binary_cross_entropy_with_logits(logits, quality.pow(1.5), reduction="none")


CLASSIFICATION_LOSSES: dict[ClassificationLossName, ClassificationLoss] = {
    "quality_focal": quality_focal_loss,
    "matchability_aware": matchability_aware_loss,
}
