"""Classification losses against the published formulas, written out for one logit and differentiated by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from mrqm.config.sections.loss import ClassificationLossName
from mrqm.losses.classification import CLASSIFICATION_LOSSES, quality_focal_loss

from .naive_losses import NAIVE_CLASSIFICATION

LOGITS = (-30.0, -6.0, -2.2, -0.3, 0.0, 0.4, 1.7, 5.0, 20.0)
QUALITIES = (0.0, 1e-4, 0.1, 0.5, 0.77, 0.99, 1.0)


def value_and_gradient(loss: Callable[[Tensor], Tensor], logit: float, dtype: torch.dtype) -> tuple[float, float]:
    x = torch.tensor([logit], dtype=dtype, requires_grad=True)
    value = loss(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.item(), gradient.item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES)
def test_value_and_gradient_are_those_of_the_published_formula(
    name: ClassificationLossName, dtype: torch.dtype
) -> None:
    for logit in LOGITS:
        for quality in (None, *QUALITIES):
            positive, iou = torch.tensor([quality is not None]), torch.tensor([quality or 0.0], dtype=dtype)
            found = value_and_gradient(lambda x: CLASSIFICATION_LOSSES[name](x, positive, iou), logit, dtype)  # noqa: B023
            naive = value_and_gradient(lambda x: NAIVE_CLASSIFICATION[name](x, quality), logit, torch.float64)  # noqa: B023
            assert found == pytest.approx(naive, rel=1e-5 if dtype == torch.float32 else 1e-9, abs=1e-6), (
                logit,
                quality,
            )


def test_a_score_is_pulled_to_its_target_by_both_factors_of_quality_focal_loss() -> None:
    """With the modulating factor held constant the gradient here would be -0.008."""
    loss, gradient = value_and_gradient(
        lambda x: quality_focal_loss(x, torch.tensor([True]), torch.tensor([0.7])), 0.0, torch.float32
    )
    assert loss == pytest.approx(0.2**2 * 0.693147, rel=1e-5)
    assert gradient == pytest.approx(-0.077315, rel=1e-4)


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES)
def test_extreme_scores_have_finite_losses_and_gradients(name: ClassificationLossName) -> None:
    logits = torch.tensor([-1e4, -200.0, -100.0, 0.0, 100.0, 1e4] * 2, requires_grad=True)
    positive = torch.arange(12) < 6
    losses = CLASSIFICATION_LOSSES[name](logits, positive, 0.6 * positive)
    losses.sum().backward()
    assert logits.grad is not None
    assert losses.isfinite().all() and logits.grad.isfinite().all()


def test_the_configuration_offers_every_loss() -> None:
    assert set(get_args(ClassificationLossName)) == set(CLASSIFICATION_LOSSES)
