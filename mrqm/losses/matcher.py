"""Hungarian matching of predictions and objects, one to one (Carion et al., 2020).

Legend: N layers, B batch, Q queries, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import generalized_box_iou

from mrqm.ops.boxes import to_xyxy
from mrqm.structures.targets import BACKGROUND, BatchTargets

WORST_COST = 1e6
"""Cost in place of NaN and infinity, so that a diverging prediction is matched last instead of ending the run."""


class HungarianMatcher:
    """Matcher that finds the cheapest assignment for every layer and image, with one transfer to the host.

    Args:
        cost_class, cost_bbox, cost_giou: weights of the focal cost, the L1 distance and the negative GIoU.
    """

    def __init__(self, cost_class: float, cost_bbox: float, cost_giou: float) -> None:
        self.cost_class, self.cost_bbox, self.cost_giou = cost_class, cost_bbox, cost_giou

    @torch.no_grad()
    def __call__(self, logits: Tensor, boxes: Tensor, targets: BatchTargets) -> Tensor:
        """Match predictions and objects (Carion et al., 2020, eq. 1).

        Args:
            logits: (N, B, Q, K) class logits.
            boxes: (N, B, Q, 4) boxes, normalised cxcywh.
            targets: padded ground truth.

        Returns:
            (N, B, Q) index of the object of each query in its image, or `BACKGROUND`.
        """
        layers, batch, queries = logits.shape[:3]
        flat = self._costs(logits.float(), boxes.to(targets.boxes.dtype), targets).cpu().numpy()
        assignment = np.full((layers, batch, queries), BACKGROUND)
        start = 0
        for i, count in enumerate(targets.counts):
            block = flat[start : start + layers * queries * count].reshape(layers, queries, count)
            start += block.size
            for layer in range(layers):
                query, object_ = linear_sum_assignment(block[layer])
                assignment[layer, i, query] = object_
        return torch.from_numpy(assignment).to(logits.device)

    def _costs(self, logits: Tensor, boxes: Tensor, targets: BatchTargets) -> Tensor:
        """Compute the costs (N, Q, objects) of each image, flattened one after the other, finite."""
        focal, boxes_xyxy, truth_xyxy = _focal_cost(logits), to_xyxy(boxes), to_xyxy(targets.boxes)
        costs = []
        for i, count in enumerate(targets.counts):
            cost_class = focal[:, i].flatten(0, 1)[:, targets.labels[i, :count]]
            cost_bbox = torch.cdist(boxes[:, i].flatten(0, 1), targets.boxes[i, :count], p=1)
            giou = generalized_box_iou(boxes_xyxy[:, i].flatten(0, 1), truth_xyxy[i, :count])
            costs.append(self.cost_class * cost_class + self.cost_bbox * cost_bbox - self.cost_giou * giou)
        return torch.cat([cost.flatten() for cost in costs]).nan_to_num(WORST_COST, WORST_COST, WORST_COST)


def _focal_cost(logits: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Subtract the focal loss of predicting each class absent from that of predicting it present; (…, K) → (…, K)."""
    score = logits.sigmoid()
    present = alpha * (1 - score) ** gamma * -torch.nn.functional.logsigmoid(logits)
    absent = (1 - alpha) * score**gamma * -torch.nn.functional.logsigmoid(-logits)
    return present - absent
