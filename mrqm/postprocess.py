"""From the model's outputs to detections in px of the original image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mrqm.boxes import to_xyxy


@torch.no_grad()
def postprocess(outputs: Mapping[str, Any], orig_sizes: Tensor, max_detections: int) -> list[dict[str, Tensor]]:
    """Best-scored pairs of query and class; there is no suppression, queries already differ.

    Args:
        outputs: `pred_logits` (B, Q, K) and `pred_boxes` (B, Q, 4).
        orig_sizes: (B, 2), height and width in px that the boxes are scaled to.
        max_detections: most detections per image.

    Returns:
        For each image `boxes` (k, 4) xyxy px, clipped to it, `scores` (k,) and `labels` (k,), falling scores.
    """
    scores = outputs["pred_logits"].float().sigmoid()
    num_classes = scores.shape[-1]
    top, index = scores.flatten(1).topk(min(max_detections, scores[0].numel()), 1)
    scale = orig_sizes.to(scores.device).flip(-1).repeat(1, 2).unsqueeze(1)  # (B, 1, 4), width and height twice
    boxes = to_xyxy(outputs["pred_boxes"].float()).clamp(0, 1) * scale
    boxes = boxes.take_along_dim((index // num_classes).unsqueeze(-1), 1)
    rows: Sequence[tuple[Tensor, ...]] = list(zip(boxes, top, index % num_classes, strict=True))
    return [{"boxes": b, "scores": s, "labels": label} for b, s, label in rows]
