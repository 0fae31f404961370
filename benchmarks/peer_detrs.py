"""The peers from transformers: RT-DETRv2, D-FINE and Deformable-DETR; see `peer_models`."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from peer_models import Autocast, Peer, Targets
from torch import Tensor, nn
from torchvision.ops import box_convert
from transformers import (
    DeformableDetrConfig,
    DeformableDetrForObjectDetection,
    DFineConfig,
    DFineForObjectDetection,
    PreTrainedModel,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
    TimmBackboneConfig,
)
from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher, DeformableDetrImageLoss

from mrqm.config import Config
from mrqm.models.backbone import STRIDES, Backbone


class Features(nn.Module):
    """MRQM's backbone with the interface of a backbone of transformers."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Compute the features of unpadded images.

        Args:
            pixel_values: images (B, 3, H, W).
            pixel_mask: unused.

        Returns:
            C2..C5 (B, C, H / stride, W / stride), each with its mask (B, H / stride, W / stride), True = image.
        """
        features = self.backbone(pixel_values, None)
        return [(x, torch.ones_like(x[:, 0], dtype=torch.bool)) for x in features]


class QueryPeer(Peer):
    """A DETR of transformers."""

    def __init__(self, detector: PreTrainedModel, backbone: Backbone, config: Config) -> None:
        super().__init__()
        bfloat16, self.max_detections = config.train.precision == "bfloat16", config.evaluation.max_detections
        _initialise(detector)
        parts = detector.model
        parts.backbone = Features(Autocast(backbone, bfloat16))
        parts.encoder = Autocast(parts.encoder, bfloat16)
        parts.decoder.layers = nn.ModuleList(Autocast(layer, bfloat16) for layer in parts.decoder.layers)
        self.detector = detector

    @property
    def backbone(self) -> nn.Module:
        """MRQM's backbone, in its precision."""
        return self.detector.model.backbone.backbone

    def loss(self, images: Tensor, targets: Targets) -> Tensor:
        """Compute the sum of transformers' losses over all decoder layers and denoising queries; see `Peer.loss`.

        Args:
            images: images (B, 3, H, W) in [0, 1].
            targets: targets of each image.

        Returns:
            The loss, a scalar.
        """
        return self.detector(pixel_values=images, labels=_as_labels(targets)).loss

    def detect(self, images: Tensor, targets: Targets) -> list[dict[str, Tensor]]:
        """Return the best (query, class) pairs of each image; see `Peer.detect`.

        Args:
            images: images (B, 3, H, W) in [0, 1].
            targets: targets of each image, of which only the sizes are used.

        Returns:
            `boxes` (k, 4) xyxy in px of the native image, `scores` (k,) and `labels` (k,) of each image.
        """
        outputs = self.detector(pixel_values=images)
        sizes = torch.stack([target["orig_size"] for target in targets]).flip(-1).repeat(1, 2)  # (B, 4): w, h, w, h
        boxes = box_convert(outputs.pred_boxes, "cxcywh", "xyxy") * sizes.unsqueeze(1)
        classes = outputs.logits.shape[-1]
        scores, best = outputs.logits.sigmoid().flatten(1).topk(min(self.max_detections, outputs.logits[0].numel()))
        boxes = boxes.gather(1, (best // classes).unsqueeze(-1).expand(-1, -1, 4))
        return [
            {"boxes": b, "scores": s, "labels": label}
            for b, s, label in zip(boxes, scores, best % classes, strict=True)
        ]


class DeformableDetr(QueryPeer):
    """A two-stage Deformable-DETR whose proposals are supervised as objects of one class."""

    def loss(self, images: Tensor, targets: Targets) -> Tensor:
        """Compute the sum of the decoder's losses and those of the proposals; see `Peer.loss`.

        Args:
            images: images (B, 3, H, W) in [0, 1].
            targets: targets of each image.

        Returns:
            The loss, a scalar.
        """
        labels = _as_labels(targets)
        outputs, config = self.detector(pixel_values=images, labels=labels), self.detector.config
        objects = [{**label, "class_labels": torch.zeros_like(label["class_labels"])} for label in labels]
        matcher = DeformableDetrHungarianMatcher(config.class_cost, config.bbox_cost, config.giou_cost)
        criterion = DeformableDetrImageLoss(matcher, config.num_labels, config.focal_alpha, ["labels", "boxes"])
        proposals = {"logits": outputs.enc_outputs_class, "pred_boxes": outputs.enc_outputs_coord_logits.sigmoid()}
        losses = criterion(proposals, objects)
        weights = {"loss_bbox": config.bbox_loss_coefficient, "loss_giou": config.giou_loss_coefficient, "loss_ce": 1}
        return outputs.loss + sum(weight * losses[name] for name, weight in weights.items())


def _as_labels(targets: Targets) -> Targets:
    """Rename targets for transformers."""
    return [{"class_labels": target["labels"], "boxes": target["boxes"]} for target in targets]


@torch.no_grad()
def _initialise(detector: PreTrainedModel) -> None:
    """Initialise for training from scratch; see the module's docstring."""
    for module in detector.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    for module in detector.modules():
        if not hasattr(module, "reset_parameters"):  # own initialisation of the model: sampling offsets, box heads, …
            detector._init_weights(module)
    parts = detector.model
    for head in [*detector.class_embed, getattr(parts, "enc_score_head", None)]:
        if head is not None:
            nn.init.constant_(head.bias, -math.log((1 - 0.01) / 0.01))
    proposal_heads = [getattr(parts, "enc_bbox_head", None), getattr(parts.decoder, "pre_bbox_head", None)]
    for head in [*detector.bbox_embed, *proposal_heads]:
        if head is not None:
            nn.init.zeros_(head.layers[-1].weight)
            nn.init.zeros_(head.layers[-1].bias)


def _hybrid_settings(config: Config, backbone: Backbone, num_classes: int) -> dict[str, Any]:
    """Return the common settings of RT-DETRv2 and D-FINE: four levels, MRQM's widths, no backbone of their own."""
    model, levels = config.model, len(STRIDES)
    return {
        **_common_settings(config, backbone, num_classes),
        "freeze_backbone_batch_norms": False,
        "encoder_hidden_dim": model.hidden_dim,
        "encoder_in_channels": backbone.channels,
        "feat_strides": list(STRIDES),
        "encode_proj_layers": [levels - 1],
        "decoder_in_channels": [model.hidden_dim] * levels,
        "hidden_expansion": 0.5,  # as in the small variants of both
    }


def _common_settings(config: Config, backbone: Backbone, num_classes: int) -> dict[str, Any]:
    """Return MRQM's widths and depths, and a backbone to replace, which defines the channels."""
    model, trunk = config.model, cast(Any, backbone.trunk)
    reductions = trunk.feature_info.reduction()
    return {
        "backbone_config": TimmBackboneConfig(
            backbone=model.backbone.name, out_indices=[reductions.index(stride) for stride in STRIDES]
        ),
        "num_labels": num_classes,
        "num_feature_levels": len(STRIDES),
        "d_model": model.hidden_dim,
        "encoder_attention_heads": model.num_heads,
        "decoder_attention_heads": model.num_heads,
        "encoder_ffn_dim": model.ffn_dim,
        "decoder_ffn_dim": model.ffn_dim,
        "decoder_layers": model.decoder_layers,
    }


def build_rtdetrv2(config: Config, backbone: Backbone, num_classes: int) -> QueryPeer:
    """Build RT-DETRv2 on four levels, with hidden expansion 0.5 as in its small variant.

    Args:
        config: configuration with MRQM's widths and depths.
        backbone: backbone of the detector.
        num_classes: number of classes.

    Returns:
        The detector.
    """
    settings = RTDetrV2Config(**_hybrid_settings(config, backbone, num_classes), decoder_n_levels=len(STRIDES))
    return QueryPeer(RTDetrV2ForObjectDetection(settings), backbone, config)


def build_dfine(config: Config, backbone: Backbone, num_classes: int) -> QueryPeer:
    """Build D-FINE on four levels, with hidden expansion 0.5 and depth 0.34 as in its small variant.

    Args:
        config: configuration with MRQM's widths and depths.
        backbone: backbone of the detector.
        num_classes: number of classes.

    Returns:
        The detector.
    """
    settings = DFineConfig(**_hybrid_settings(config, backbone, num_classes), depth_mult=0.34)
    return QueryPeer(DFineForObjectDetection(settings), backbone, config)


def build_deformable_detr(config: Config, backbone: Backbone, num_classes: int) -> DeformableDetr:
    """Build a two-stage Deformable-DETR with box refinement and as many encoder as decoder layers.

    Args:
        config: configuration with MRQM's widths and depths.
        backbone: backbone of the detector.
        num_classes: number of classes.

    Returns:
        The detector.
    """
    settings = DeformableDetrConfig(
        **_common_settings(config, backbone, num_classes),
        encoder_layers=config.model.decoder_layers,
        two_stage=True,
        with_box_refine=True,
        auxiliary_loss=True,
    )
    detector = DeformableDetrForObjectDetection(settings)
    return DeformableDetr(detector, backbone, config)
