"""Hungarian matching of predictions and objects, one to one (Carion et al., 2020).

Legend: N layers, B batch, Q queries, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import generalized_box_iou

from mrqm.boxes import to_xyxy
from mrqm.targets import BACKGROUND, BatchTargets

WORST_COST = 1e6
"""Takes the place of NaN and inf, so that a diverging prediction is matched last instead of ending the run."""


class HungarianMatcher:
    """Finds the cheapest assignment for every layer and image, with one transfer to the host.

    Args:
        cost_class, cost_bbox, cost_giou: weights of the focal cost, the L1 distance and the negative GIoU.
    """

    def __init__(self, cost_class: float, cost_bbox: float, cost_giou: float) -> None:
        self.cost_class, self.cost_bbox, self.cost_giou = cost_class, cost_bbox, cost_giou

    @torch.no_grad()
    def __call__(self, logits: Tensor, boxes: Tensor, targets: BatchTargets) -> Tensor:
        """Match.

        Args:
            logits: (N, B, Q, K).
            boxes: (N, B, Q, 4), normalised cxcywh.
            targets: ground truth.

        Returns:
            (N, B, Q), the object of each query in its image, or background.
        """
        layers, batch, queries = logits.shape[:3]
        costs = [self._cost(logits[:, i], boxes[:, i], targets, i).flatten() for i in range(batch)]
        flat = torch.cat(costs).cpu().numpy()
        assignment = np.full((layers, batch, queries), BACKGROUND)
        start = 0
        for i, count in enumerate(targets.counts):
            block = flat[start : start + layers * queries * count].reshape(layers, queries, count)
            start += block.size
            for layer in range(layers):
                query, object_ = linear_sum_assignment(block[layer])
                assignment[layer, i, query] = object_
        return torch.from_numpy(assignment).to(logits.device)

    def _cost(self, logits: Tensor, boxes: Tensor, targets: BatchTargets, image: int) -> Tensor:
        """(N, Q, objects of the image), finite."""
        count = targets.counts[image]
        labels, truth = targets.labels[image, :count], targets.boxes[image, :count]
        shape = logits.shape[:2]
        logits, boxes = logits.flatten(0, 1).float(), boxes.flatten(0, 1).float()
        cost = (
            self.cost_class * _focal_cost(logits)[:, labels]
            + self.cost_bbox * torch.cdist(boxes, truth, p=1)
            - self.cost_giou * generalized_box_iou(to_xyxy(boxes), to_xyxy(truth))
        )
        return cost.nan_to_num(WORST_COST, WORST_COST, WORST_COST).unflatten(0, shape)


def _focal_cost(logits: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of calling each class present minus that of calling it absent; (…, K) → (…, K)."""
    score = logits.sigmoid()
    present = alpha * (1 - score) ** gamma * -torch.nn.functional.logsigmoid(logits)
    absent = (1 - alpha) * score**gamma * -torch.nn.functional.logsigmoid(-logits)
    return present - absent
