"""The detector."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mrqm.config.sections.annotations import RenamedFrom, Roles
from mrqm.config.sections.section import Count, CountOrZero, Fraction, NonNegative, Positive, Section


class BackboneConfig(Section):
    """The convolutional trunk that gives C2..C5."""

    name: str = "resnet50"
    """Any timm model with `features_only` and strides 4, 8, 16 and 32."""
    weights: Annotated[str, Roles()] = "hub"
    """`none`, `hub` (timm downloads them once) or the path of a .safetensors file in timm's key names."""
    frozen_batch_norm: bool = True
    """Keep the statistics and affine parameters of every BatchNorm as loaded; wrong without pretrained weights."""
    frozen_stages: Annotated[int, Field(ge=0, le=4)] = 0
    """Keep as loaded all that C2 (1), C3 (2), C4 (3) or C5 (4) is computed with; DETRs on ResNets keep 1."""

    @model_validator(mode="after")
    def _frozen_parts_come_from_somewhere(self) -> Self:
        if self.frozen_batch_norm and self.weights == "none":
            raise ValueError(
                "frozen_batch_norm=true needs pretrained statistics but weights is none; "
                "set model.backbone.frozen_batch_norm=false or give model.backbone.weights"
            )
        if self.frozen_stages and not self.frozen_batch_norm:
            raise ValueError(
                f"frozen_stages={self.frozen_stages} needs frozen statistics too; "
                "set model.backbone.frozen_batch_norm=true or model.backbone.frozen_stages=0"
            )
        return self


class BiFPNConfig(Section):
    """The bi-directional pyramid between backbone and encoder."""

    repeats: CountOrZero = 1
    """How many top-down + bottom-up passes; 0 turns it off and leaves the lateral projections."""


class RefinementConfig(Section):
    """Iteration of the Scale-Aware Encoder (Fu et al., 2024, eq. 1-7); here written (high_level_updates+1)x(blocks)."""

    blocks: Count = 3
    """How many encoder blocks."""
    high_level_updates: Count = 2
    """Updates of F3..F5 in each block before its one update of F2."""


class DenoisingConfig(Section):
    """Contrastive denoising queries (Zhang et al., 2023), training only."""

    enabled: bool = True
    """Whether noised ground truth is decoded beside the main queries."""
    max_queries: Annotated[int, Field(ge=2)] = 200
    """Most denoising queries per image, positives and negatives together, however many objects it holds."""
    label_noise: Fraction = 0.5
    """Share of labels considered for a flip; half of them are flipped, as in DINO."""
    box_noise: NonNegative = 1.0
    """Shift of box corners in half widths and heights; negatives are shifted between one and two times this."""


class IoUAwareHeadConfig(Section):
    """The training-only branch of dense predictions and mined queries (Fu et al., 2024, eq. 8-10)."""

    enabled: bool = True
    """Whether anchors are mined into positive queries for the shared decoder."""


class ModelConfig(Section):
    """The detector."""

    backbone: BackboneConfig = BackboneConfig()
    hidden_dim: Count = 256
    """Channels of every level, token and query."""
    num_heads: Count = 8
    """Attention heads; must divide hidden_dim."""
    num_points: Count = 4
    """Sampling points per head and level of deformable attention."""
    ffn_dim: Count = 2048
    """Hidden width of the feed-forward blocks."""
    bifpn: BiFPNConfig = BiFPNConfig()
    encoder: Literal["sae", "full"] = "sae"
    """`sae`: Scale-Aware Encoder; `full`: every level is a query in every layer (Deformable-DETR), for comparison."""
    refinement: RefinementConfig = RefinementConfig()
    full_encoder_layers: Count = 6
    """Layers of the `full` encoder."""
    num_queries: Count = 900
    """Queries of the main branch: the most objects one image can yield."""
    proposal_scale: Positive = 4.0
    """Side of the encoder's square proposals in strides of their level."""
    query_nms_iou: Annotated[Annotated[float, Field(gt=0, le=1)] | None, RenamedFrom("model.distinct_iou")] = None
    """Proposals that overlap a better one by more than this become queries last; null ignores overlap, as in DINO."""
    decoder_layers: Count = 6
    """Decoder layers, shared by the main, denoising and mined queries."""
    denoising: DenoisingConfig = DenoisingConfig()
    iou_aware_head: IoUAwareHeadConfig = IoUAwareHeadConfig()
    channels_last: bool = True
    """Memory format of the backbone; faster convolutions on most CPUs and GPUs."""
    compile: Annotated[bool, Roles()] = False
    """Whether torch.compile compiles backbone, encoder and decoder for training, which pads all images to one size."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.hidden_dim % self.num_heads or self.hidden_dim % 4:
            raise ValueError(
                f"hidden_dim={self.hidden_dim} must be a multiple of num_heads={self.num_heads} and of 4; "
                "change model.hidden_dim or model.num_heads"
            )
        return self
