"""MRQM (Fu et al., 2024): Figure 1 of the paper as a module.

image → backbone C2..C5 → BiFPN F2..F5 → Scale-Aware Encoder F'' → query selection → decoder, and in training
F'' → IoU-aware head → mined positive queries → the same decoder.

Legend: B batch, Q queries, K classes, N decoder layers, S = Σ H_l·W_l.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrqm.config import Config, LossConfig, ModelConfig
from mrqm.models.backbone import STRIDES, Backbone, build_backbone
from mrqm.models.bifpn import BiFPN
from mrqm.models.decoder import Decoder, QuerySelection
from mrqm.models.denoising import Denoising
from mrqm.models.encoder import FullEncoder, ScaleAwareEncoder, build_encoder
from mrqm.models.iou_aware_head import IoUAwareHead
from mrqm.models.mining import AnchorMiner, IoUThreshold
from mrqm.models.tokens import flatten_levels, token_grid
from mrqm.structures.targets import batch_targets


class MRQM(nn.Module):
    """Detector, composed of its parts; `denoising` and `iou_aware_head` are None where disabled."""

    def __init__(
        self,
        backbone: Backbone,
        bifpn: BiFPN,
        encoder: ScaleAwareEncoder | FullEncoder,
        query_selection: QuerySelection,
        decoder: Decoder,
        denoising: Denoising | None,
        iou_aware_head: IoUAwareHead | None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.bifpn = bifpn
        self.encoder = encoder
        self.query_selection = query_selection
        self.decoder = decoder
        self.denoising = denoising
        self.iou_aware_head = iou_aware_head

    def forward(
        self, images: Tensor, masks: Tensor | None = None, targets: Sequence[dict[str, Tensor]] | None = None
    ) -> dict[str, Any]:
        """Detect objects; with `targets` also decode the training branches.

        Args:
            images: (B, 3, H, W), uint8 or float in [0, 1].
            masks: (B, H, W), True = padding right and below, or None.
            targets: ground truth (see `mrqm`); feeds denoising and mining only.

        Returns:
            `pred_logits` (B, Q, K) and `pred_boxes` (B, Q, 4) of the last layer, `aux_outputs` with those of all layers
            (N, B, Q, ·), `encoder_outputs` (see `QuerySelection`) and `grid`. With targets also `denoising_outputs` and
            `mined_outputs`, which are as `aux_outputs` with an `assignment` (B, Q), and `dense_outputs`, `predictions`
            and `positives` of the IoU-aware head; the encoder's own boxes at those positives are its `mined_boxes`.
            `salience_logits` (B, H_2·W_2) where only salient tokens of F2 are refined.
        """
        images, masks = _pad_to_stride(images, masks)
        features = self.bifpn(self.backbone(images, masks), masks)
        grid = token_grid(features, masks)
        tokens = flatten_levels(features)
        memory = self.encoder(tokens, grid)
        main, encoder_outputs = self.query_selection(memory, grid)
        branches, assignments, outputs = [main], {}, {"grid": grid, "encoder_outputs": encoder_outputs}
        if targets is not None:
            truth = batch_targets(targets)
            if self.encoder.salience is not None:
                outputs["salience_logits"] = self.encoder.salience.logits(tokens, grid)
            if self.denoising is not None:
                branch, assignments["denoising_outputs"] = self.denoising(truth)
                branches.append(branch)
            if self.iou_aware_head is not None:
                dense, positives, branch, assignments["mined_outputs"] = self.iou_aware_head(memory, grid, truth)
                branches.append(branch)
                outputs["dense_outputs"] = {"predictions": dense, "positives": positives}
                encoder_outputs["mined_boxes"] = self.query_selection.boxes_at(
                    encoder_outputs["token_features"], grid, positives.image, positives.anchor // dense.num_shapes
                )
        decoded, *training_only = self.decoder(branches, memory, grid)
        for (name, assignment), branch_outputs in zip(assignments.items(), training_only, strict=True):
            outputs[name] = {**branch_outputs, "assignment": assignment}
        last = {name: stacked[-1] for name, stacked in decoded.items()}
        return {**last, "aux_outputs": decoded, **outputs}


def build_model(config: Config, num_classes: int) -> MRQM:
    """Build the detector of a configuration.

    Args:
        config: configuration, of which `model` and `loss` are used.
        num_classes: number of classes K.

    Returns:
        The detector.

    Raises:
        ConfigError: the backbone or its weights are not available.
    """
    model, loss = config.model, config.loss
    backbone = build_backbone(model.backbone, channels_last=model.channels_last)
    dim, heads, levels = model.hidden_dim, model.num_heads, len(STRIDES)
    attention = (dim, heads, levels, model.num_points, model.ffn_dim)
    return MRQM(
        backbone=backbone,
        bifpn=BiFPN(backbone.channels, dim, model.bifpn.repeats),
        encoder=build_encoder(model),
        query_selection=QuerySelection(dim, num_classes, model.num_queries, model.proposal_scale, model.query_nms_iou),
        decoder=Decoder(*attention, num_layers=model.decoder_layers, num_classes=num_classes),
        denoising=_build_denoising(model, num_classes),
        iou_aware_head=_build_iou_aware_head(model, loss, num_classes),
    )


def compile_parts(model: MRQM) -> None:
    """Compile backbone, encoder and decoder with torch.compile on their first call.

    Images of another size are compiled again, which takes minutes, so that all images should have one size.
    """
    for part in (model.backbone, model.encoder, model.decoder):
        part.compile()


def _build_denoising(model: ModelConfig, num_classes: int) -> Denoising | None:
    if not model.denoising.enabled:
        return None
    settings = model.denoising
    return Denoising(model.hidden_dim, num_classes, settings.max_queries, settings.label_noise, settings.box_noise)


def _build_iou_aware_head(model: ModelConfig, loss: LossConfig, num_classes: int) -> IoUAwareHead | None:
    if not model.iou_aware_head.enabled:
        return None
    mining = loss.mining
    threshold = IoUThreshold(
        mining.base_iou, mining.growth, mining.exponent, mining.min_area, dynamic=mining.threshold == "dynamic"
    )
    miner = AnchorMiner(
        mining.anchor_scales,
        mining.anchor_ratios,
        threshold,
        refined=mining.candidates == "refined",
        max_positives=loss.one_to_many.ratio,
        min_positives=loss.one_to_many.min_positives,
    )
    return IoUAwareHead(model.hidden_dim, num_classes, miner, loss.one_to_many.max_queries)


def _pad_to_stride(images: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Convert images to float and pad their sides to multiples of the coarsest stride."""
    if not images.is_floating_point():
        images = images.float() / 255
    height, width = images.shape[-2:]
    bottom, right = -height % STRIDES[-1], -width % STRIDES[-1]
    if bottom or right:
        if masks is None:
            masks = torch.zeros(images.shape[0], height, width, dtype=torch.bool, device=images.device)
        images, masks = F.pad(images, (0, right, 0, bottom)), F.pad(masks, (0, right, 0, bottom), value=True)
    return images, masks
