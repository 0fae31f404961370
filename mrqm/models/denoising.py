"""Contrastive denoising queries (Zhang et al., 2023): noised ground truth that the decoder learns to repair or reject.

The number of queries is capped per image whatever it holds: few objects are repeated in several groups, many are
sampled. Training only.

Legend: B batch, Q denoising queries, D hidden_dim, N objects.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mrqm.models.queries import QueryBranch
from mrqm.ops.boxes import to_cxcywh, to_xyxy
from mrqm.structures.targets import BACKGROUND, IGNORE, BatchTargets, gather_targets

NO_GROUP = -1
LEAST_SIDE = 1e-4
"""Least side of a noised box as a fraction of the image, because deltas cannot enlarge a side of 0."""


class Denoising(nn.Module):
    """Embedding of noised labels and boxes as decoder queries."""

    def __init__(self, dim: int, num_classes: int, max_queries: int, label_noise: float, box_noise: float) -> None:
        super().__init__()
        self.num_classes, self.max_queries = num_classes, max_queries
        self.label_noise, self.box_noise = label_noise, box_noise
        self.label_embedding = nn.Embedding(num_classes, dim)

    def forward(self, targets: BatchTargets) -> tuple[QueryBranch, Tensor]:
        """Draw the queries of a batch.

        Returns:
            The branch, whose groups do not see each other, and the assignment (B, Q): the object that a positive must
            recover, `BACKGROUND` for negatives, `IGNORE` for padding.
        """
        device = targets.boxes.device
        layouts = [self._layout(count, device) for count in targets.counts]
        objects = pad_sequence([objects for objects, _, _ in layouts], batch_first=True)  # (B, Q)
        positive = pad_sequence([positive for _, positive, _ in layouts], batch_first=True)
        group = pad_sequence([group for _, _, group in layouts], batch_first=True, padding_value=NO_GROUP)

        boxes, labels = gather_targets(targets, objects)
        branch = QueryBranch(
            content=self.label_embedding(self._flip(labels)),
            reference_boxes=self._shift(boxes, positive),
            attn_mask=group.unsqueeze(2) != group.unsqueeze(1),
        )
        assignment = torch.where(positive, objects, BACKGROUND)
        return branch, assignment.masked_fill(group == NO_GROUP, IGNORE)

    def _layout(self, count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Object, polarity and group of each query of one image: groups of n positives and n negatives each."""
        if count == 0:  # one query that counts nowhere, so that every parameter has a gradient on every rank
            return tuple(torch.full((1,), value, device=device) for value in (0, False, NO_GROUP))  # type: ignore[return-value]
        capacity = self.max_queries // 2
        chosen = torch.arange(count, device=device)
        if count > capacity:
            chosen = torch.randperm(count, device=device)[:capacity]
        groups = max(1, capacity // len(chosen))
        index = torch.arange(groups * 2 * len(chosen), device=device)
        return chosen[index % len(chosen)], index // len(chosen) % 2 == 0, index // (2 * len(chosen))

    def _flip(self, labels: Tensor) -> Tensor:
        flipped = torch.rand(labels.shape, device=labels.device) < self.label_noise * 0.5
        return torch.where(flipped, torch.randint_like(labels, self.num_classes), labels)

    def _shift(self, boxes: Tensor, positive: Tensor) -> Tensor:
        """Move each corner by up to `box_noise` half sides; negatives by one to two times as much."""
        reach = torch.rand_like(boxes) + (~positive).unsqueeze(-1)
        sign = torch.randint_like(boxes, 2) * 2 - 1
        half_sides = boxes[..., 2:].repeat(1, 1, 2) / 2
        corners = (to_xyxy(boxes) + sign * reach * half_sides * self.box_noise).clamp(0, 1)
        # noise above one half side can swap corners: sort them, so that a box stays a box
        top_left = torch.minimum(corners[..., :2], corners[..., 2:])
        bottom_right = torch.maximum(corners[..., :2], corners[..., 2:])
        centers, sides = to_cxcywh(torch.cat([top_left, bottom_right], -1)).split(2, -1)
        return torch.cat([centers, sides.clamp(min=LEAST_SIDE)], -1)
