"""Conversion of the model's outputs to detections in px of the original image.

Legend: B batch, Q queries, K classes, N detections.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mrqm.config import Config
from mrqm.ops.boxes import to_xyxy
from mrqm.ops.distributed import autocast, to_device, uncompiled
from mrqm.ops.nms import suppress
from mrqm.structures.batch import Batch
from mrqm.structures.detections import DetectionTensors


class Ranked(NamedTuple):
    """Detections of a batch in descending order of score.

    Attributes:
        boxes: (B, N, 4) boxes, xyxy px.
        scores: (B, N) scores in [0, 1].
        labels: (B, N) labels, 0-based.
        kept: (B, N) bool, False for detections that a better one of the class suppresses.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    kept: Tensor


@torch.no_grad()
def postprocess(
    outputs: Mapping[str, Any], orig_sizes: Tensor, max_detections: int, nms_iou: float | None = None
) -> list[DetectionTensors]:
    """Select the pairs of query and class with the highest scores.

    Args:
        outputs: `pred_logits` (B, Q, K) and `pred_boxes` (B, Q, 4), normalised cxcywh.
        orig_sizes: (B, 2) height and width in px that the boxes are scaled to.
        max_detections: greatest number of detections per image.
        nms_iou: IoU above which a better detection of the class suppresses another; None keeps all, which suits a model
            trained long enough that its queries do not repeat objects.

    Returns:
        For each image `boxes` (k, 4) xyxy px, clipped to it, `scores` (k,) and `labels` (k,), in descending order of
        score.
    """
    ranked = rank(outputs["pred_logits"], outputs["pred_boxes"], orig_sizes, max_detections, nms_iou)
    return [
        {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}
        for boxes, scores, labels, kept in zip(*ranked, strict=True)
    ]


def rank(logits: Tensor, boxes: Tensor, orig_sizes: Tensor, max_detections: int, nms_iou: float | None) -> Ranked:
    """Rank pairs of query and class, without removing suppressed ones; see `postprocess`.

    Args:
        logits: (B, Q, K) class logits.
        boxes: (B, Q, 4) boxes, normalised cxcywh.
        orig_sizes: (B, 2) height and width in px that the boxes are scaled to.
        max_detections: greatest number of detections per image.
        nms_iou: IoU threshold of suppression; None keeps all.

    Returns:
        Detections with N = min(max_detections, Q · K).
    """
    scores = logits.float().sigmoid()
    num_queries, num_classes = scores.shape[1:]
    top, index = scores.flatten(1).topk(min(max_detections, num_queries * num_classes), 1)
    scale = orig_sizes.to(scores.device).flip(-1).repeat(1, 2).unsqueeze(1)  # (B, 1, 4), width and height twice
    placed = to_xyxy(boxes.float()).clamp(0, 1) * scale
    placed = placed.gather(1, (index // num_classes).unsqueeze(-1).expand(-1, -1, 4))
    labels = index % num_classes
    if nms_iou is None:
        return Ranked(placed, top, labels, torch.ones_like(labels, dtype=torch.bool))
    return Ranked(placed, top, labels, suppress(placed, top, labels, num_classes, nms_iou))


@torch.inference_mode()
def detect(model: nn.Module, batch: Batch, config: Config, device: torch.device) -> list[DetectionTensors]:
    """Detect objects in one batch.

    Args:
        model: model in evaluation mode, on the device.
        batch: images, masks and targets; of the targets only `orig_size` is used.
        config: configuration with precision, limits and suppression.
        device: device of the model.

    Returns:
        For each image the detections of `postprocess` in host memory, in px of the target's `orig_size`.
    """
    images, masks, targets = to_device(batch, device)
    with autocast(config, device), uncompiled(config):
        outputs = model(images, masks)
    sizes = torch.stack([target["orig_size"] for target in targets])
    found = postprocess(outputs, sizes, config.evaluation.max_detections, config.evaluation.nms_iou)
    return [{name: value.cpu() for name, value in detections.items()} for detections in found]
