"""From the model's outputs to detections in px of the original image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from mrqm.boxes import to_xyxy


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
    scores = outputs["pred_logits"].float().sigmoid()
    num_classes = scores.shape[-1]
    top, index = scores.flatten(1).topk(min(max_detections, scores[0].numel()), 1)
    scale = orig_sizes.to(scores.device).flip(-1).repeat(1, 2).unsqueeze(1)  # (B, 1, 4), width and height twice
    boxes = to_xyxy(outputs["pred_boxes"].float()).clamp(0, 1) * scale
    boxes = boxes.take_along_dim((index // num_classes).unsqueeze(-1), 1)
    found = [
        {"boxes": b, "scores": s, "labels": label} for b, s, label in zip(boxes, top, index % num_classes, strict=True)
    ]
    return found if nms_iou is None else [suppress(detections, nms_iou) for detections in found]


def suppress(detections: dict[str, Tensor], iou: float) -> dict[str, Tensor]:
    """Class-wise non-maximum suppression."""
    kept = batched_nms(detections["boxes"], detections["scores"], detections["labels"], iou)
    return {name: values[kept] for name, values in detections.items()}
