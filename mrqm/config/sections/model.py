"""The detector."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mrqm.config.sections.annotations import RenamedFrom, Roles
from mrqm.config.sections.section import Count, CountOrZero, Fraction, NonNegative, Positive, Section


class BackboneConfig(Section):
    """Convolutional backbone that computes C2..C5."""

    name: str = "resnet50"
    """Name of a timm model that supports `features_only` with strides 4, 8, 16 and 32."""
    weights: Annotated[str, Roles()] = "hub"
    """Pretrained weights: `none`, `hub` (timm downloads them once), or a file of the backbone or of a detector that has
    it: .safetensors, .pth or .pkl of timm, torchvision, detectron2, mmdetection, transformers, RT-DETR, D-FINE or DEIM.
    """
    frozen_batch_norm: bool = True
    """Freeze the statistics and affine parameters of every BatchNorm; needs pretrained weights."""
    frozen_stages: Annotated[int, Field(ge=0, le=4)] = 0
    """Number of frozen stages: 1 freezes up to C2, 2 up to C3, 3 up to C4, 4 all; DETRs on ResNets use 1."""

    @model_validator(mode="after")
    def _frozen_stages_have_frozen_statistics(self) -> Self:
        if self.frozen_stages and not self.frozen_batch_norm:
            raise ValueError(
                f"frozen_stages={self.frozen_stages} needs frozen statistics too; "
                "set model.backbone.frozen_batch_norm=true or model.backbone.frozen_stages=0"
            )
        return self


class BiFPNConfig(Section):
    """Bi-directional feature pyramid between backbone and encoder."""

    repeats: CountOrZero = 1
    """Number of top-down + bottom-up passes; 0 turns them off and leaves the lateral projections."""


class RefinementConfig(Section):
    """Iteration of the Scale-Aware Encoder (Fu et al., 2024, eq. 1-7), written (high_level_updates+1)x(blocks)."""

    blocks: Count = 3
    """Number of encoder blocks."""
    high_level_updates: Count = 2
    """Number of updates of F3..F5 in each block before its one update of F2."""
    low_level_ffn_dim: Count | None = None
    """Hidden width of the feed-forward block in updates of F2, which has most of the tokens; null takes ffn_dim."""
    low_level_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of F2's tokens that are updated, the most salient ones; their score is trained by the mined anchors."""


class DenoisingConfig(Section):
    """Contrastive denoising queries (Zhang et al., 2023), used in training only."""

    enabled: bool = True
    """Decode noised ground truth beside the main queries."""
    max_queries: Annotated[int, Field(ge=2)] = 200
    """Greatest number of denoising queries per image, positives and negatives together."""
    label_noise: Fraction = 0.5
    """Fraction of the labels that are candidates for a flip; half of them are flipped, as in DINO."""
    box_noise: NonNegative = 1.0
    """Greatest shift of box corners in half widths and heights; negatives are shifted by one to two times this."""


class IoUAwareHeadConfig(Section):
    """Training-only branch of dense predictions and mined queries (Fu et al., 2024, eq. 8-10)."""

    enabled: bool = True
    """Mine positive anchors and decode them as queries of the shared decoder."""


class ModelConfig(Section):
    """The detector."""

    init: Annotated[str | None, Roles()] = None
    """Trained detector whose weights the training starts from: the folder of a checkpoint or of a run (its best one), a
    .safetensors file, a URI of either, `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `runs:/RUN_ID/model`; classes
    are matched by name. null starts from model.backbone.weights alone.
    """
    backbone: BackboneConfig = BackboneConfig()
    hidden_dim: Count = 256
    """Number of channels of every level, token and query."""
    num_heads: Count = 8
    """Number of attention heads; must divide hidden_dim."""
    num_points: Count = 4
    """Number of sampling points per head and level of deformable attention."""
    ffn_dim: Count = 2048
    """Hidden width of the feed-forward blocks."""
    bifpn: BiFPNConfig = BiFPNConfig()
    encoder: Literal["sae", "full"] = "sae"
    """Encoder: `sae` (Scale-Aware Encoder) or `full` (of Deformable-DETR, every level a query in every layer)."""
    refinement: RefinementConfig = RefinementConfig()
    full_encoder_layers: Count = 6
    """Number of layers of the `full` encoder."""
    num_queries: Count = 900
    """Number of queries of the main branch, which bounds the number of objects per window or image."""
    proposal_scale: Positive = 4.0
    """Side of the encoder's square proposals in strides of their level."""
    query_nms_iou: Annotated[Annotated[float, Field(gt=0, le=1)] | None, RenamedFrom("model.distinct_iou")] = None
    """IoU above which a proposal that overlaps a better one is selected last; null ignores overlap, as in DINO."""
    decoder_layers: Count = 6
    """Number of decoder layers, shared by the main, denoising and mined queries."""
    denoising: DenoisingConfig = DenoisingConfig()
    iou_aware_head: IoUAwareHeadConfig = IoUAwareHeadConfig()
    channels_last: bool = True
    """Channels-last memory format of the backbone; faster convolutions on most CPUs and GPUs."""
    compile: Annotated[bool, Roles()] = False
    """Compile backbone, encoder and decoder with torch.compile for training; all images are padded to one size."""

    @model_validator(mode="after")
    def _frozen_statistics_come_from_somewhere(self) -> Self:
        if self.backbone.frozen_batch_norm and self.backbone.weights == "none" and self.init is None:
            raise ValueError(
                "backbone.frozen_batch_norm=true needs pretrained statistics but backbone.weights is none; set "
                "model.backbone.frozen_batch_norm=false or give model.backbone.weights or model.init"
            )
        return self

    @model_validator(mode="after")
    def _salience_is_trained(self) -> Self:
        share = self.refinement.low_level_share
        if share < 1 and (self.encoder != "sae" or not self.iou_aware_head.enabled):
            raise ValueError(
                f"refinement.low_level_share={share:g} needs encoder=sae and iou_aware_head.enabled=true, whose mined "
                "anchors train the score; set model.refinement.low_level_share=1 or those keys"
            )
        return self

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.hidden_dim % self.num_heads or self.hidden_dim % 4:
            raise ValueError(
                f"hidden_dim={self.hidden_dim} must be a multiple of num_heads={self.num_heads} and of 4; "
                "change model.hidden_dim or model.num_heads"
            )
        return self
