"""From the model's outputs to detections in px of the original image.

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


class Ranked(NamedTuple):
    """Detections of a batch by falling score.

    Attributes:
        boxes: (B, N, 4) xyxy px.
        scores: (B, N).
        labels: (B, N).
        kept: (B, N), False where a better detection of the class suppresses one.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    kept: Tensor


@torch.no_grad()
def postprocess(
    outputs: Mapping[str, Any], orig_sizes: Tensor, max_detections: int, nms_iou: float | None = None
) -> list[dict[str, Tensor]]:
    """Best-scored pairs of query and class.

    Args:
        outputs: `pred_logits` (B, Q, K) and `pred_boxes` (B, Q, 4).
        orig_sizes: (B, 2), height and width in px that the boxes are scaled to.
        max_detections: most detections per image.
        nms_iou: suppress detections that overlap a better one of their class by more than this; None keeps all, as
            fits a model trained long enough that its queries differ.

    Returns:
        For each image `boxes` (k, 4) xyxy px, clipped to it, `scores` (k,) and `labels` (k,), falling scores.
    """
    ranked = rank(outputs["pred_logits"], outputs["pred_boxes"], orig_sizes, max_detections, nms_iou)
    return [
        {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}
        for boxes, scores, labels, kept in zip(*ranked, strict=True)
    ]


def rank(logits: Tensor, boxes: Tensor, orig_sizes: Tensor, max_detections: int, nms_iou: float | None) -> Ranked:
    """`postprocess` before suppressed detections are taken out: N = min(max_detections, Q · K)."""
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
def detect(model: nn.Module, batch: Batch, config: Config, device: torch.device) -> list[dict[str, Tensor]]:
    """Detections of one batch, on the host, in px of each target's `orig_size`."""
    images, masks, targets = to_device(batch, device)
    with autocast(config, device), uncompiled(config):
        outputs = model(images, masks)
    sizes = torch.stack([target["orig_size"] for target in targets])
    found = postprocess(outputs, sizes, config.evaluation.max_detections, config.evaluation.nms_iou)
    return [{name: value.cpu() for name, value in detections.items()} for detections in found]
