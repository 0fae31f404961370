"""Losses of the training, their matching and weights."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from mrqm.config.sections.annotations import RenamedFrom
from mrqm.config.sections.section import Count, NonNegative, Positive, Section

ClassificationLossName: TypeAlias = Literal["quality_focal", "varifocal", "matchability_aware"]


class CostConfig(Section):
    """Costs of the Hungarian matching."""

    classification: NonNegative = 2.0
    """Weight of the focal classification cost."""
    bbox: NonNegative = 5.0
    """Weight of the L1 distance of normalised boxes."""
    giou: NonNegative = 2.0
    """Weight of the negative generalised IoU."""


class WeightConfig(Section):
    """Weights of the losses, the same on every layer and branch."""

    classification: NonNegative = 1.0
    """Weight of the classification loss."""
    bbox: NonNegative = 5.0
    """Weight of the L1 loss of normalised boxes."""
    giou: NonNegative = 2.0
    """Weight of the generalised IoU loss."""
    salience: NonNegative = 1.0
    """Weight of the focal loss of F2's salience scores, where model.refinement.low_level_share is below 1."""


class MiningConfig(Section):
    """Selection of positive anchors for an object (Fu et al., 2024, eq. 8)."""

    threshold: Literal["dynamic", "fixed"] = "dynamic"
    """IoU threshold: `dynamic` is T_I, which grows with an object's size (eq. 8); `fixed` is base_iou for all."""
    base_iou: Annotated[float, Field(gt=0, lt=1)] = 0.55
    """T_b of eq. 8, the lowest IoU threshold of a positive."""
    growth: NonNegative = 0.15
    """k of eq. 8, the growth factor of the threshold above base_iou."""
    exponent: NonNegative = 0.2
    """p of eq. 8, the exponent of an object's relative size."""
    min_area: Positive = 144.0
    """A_s of eq. 8, area of the smallest instances in px² of the network input; the default is that of SODA-D."""
    candidates: Literal["refined", "anchors"] = "refined"
    """Boxes compared with the objects: the head's `refined` boxes or the static `anchors`."""
    anchor_scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (2.0, 4.0)
    """Anchor sides in strides of their level."""
    anchor_ratios: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0,)
    """Anchor aspect ratios, height divided by width."""


class OneToManyConfig(Section):
    """Number and weight of mined positives."""

    ratio: Count = 6
    """Greatest number of positives per object, those of highest IoU."""
    min_positives: Count = 1
    """Number of best anchors that are positive when fewer pass the threshold."""
    max_queries: Count = 300
    """Greatest number of mined queries per image, balanced over its objects."""
    dense_loss_weight: NonNegative = 1.0
    """Weight of the losses of the IoU-aware head's dense predictions."""
    mined_loss_weight: NonNegative = 1.0
    """Weight of the losses of the mined queries."""

    @model_validator(mode="after")
    def _least_is_not_above_most(self) -> Self:
        if self.min_positives > self.ratio:
            raise ValueError(
                f"min_positives={self.min_positives} is above ratio={self.ratio}; "
                "raise loss.one_to_many.ratio or lower loss.one_to_many.min_positives"
            )
        return self


class LossConfig(Section):
    """Losses of the training, their matching and weights."""

    classification: ClassificationLossName = "quality_focal"
    """Classification loss: `quality_focal` (Li et al., 2020), `varifocal` (Zhang et al., 2021) or `matchability_aware`
    (Huang et al., 2025).
    """
    matcher_costs: Annotated[CostConfig, RenamedFrom("loss.costs")] = CostConfig()
    loss_weights: Annotated[WeightConfig, RenamedFrom("loss.weights")] = WeightConfig()
    mining: MiningConfig = MiningConfig()
    one_to_many: OneToManyConfig = OneToManyConfig()
    encoder_supervision: Literal["one_to_one", "mined"] = "one_to_one"
    """Supervision of the encoder's proposals: `one_to_one` by matching, as in the paper; `mined` of every token by the
    mined anchors.
    """
