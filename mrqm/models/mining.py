"""Anchor mining: assignment of positive anchors to objects (Fu et al., 2024, eq. 8).

    T_I = max(T_b, T_b + k · (sqrt(w·h) / A_s)^p)

with T_b = 0.55, k = 0.15, p = 0.2 and A_s = 144 px² gives objects of 8, 16, 32 and 96 px the thresholds 0.634, 0.647,
0.661 and 0.688. As printed, a length is divided by an area; it is implemented as printed.

Mining is local: anchors lie on regular grids, so the candidates of an object are the anchors of the cells around its
center, and time and memory grow with objects × nearby anchors. All images of a batch are mined together.

Legend: B batch, N objects of the whole batch, S tokens, A anchors per token, C candidates per object, P positives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mrqm.models.tokens import TokenGrid
from mrqm.ops.boxes import paired_iou
from mrqm.structures.targets import IGNORE, BatchTargets

CLAIMED_DISCOUNT = 0.5
"""Share by which the IoU of an anchor assigned to another object is reduced when an object without positives chooses.
"""

BoxesAt = Callable[[Tensor, Tensor], Tensor]
"""(image (…), anchor (…)) → normalised cxcywh boxes (…, 4) of those anchors."""


@dataclass(frozen=True)
class MinedPositives:
    """Anchors assigned to objects; all (P,), best first within each object.

    Attributes:
        image: index of the image in the batch.
        anchor: index into its S·A anchors, token · A + shape.
        object: index of the object in the image.
        iou: IoU of the anchor's candidate box with the object.
        rank: 0 for the best positive of an object, 1 for the next, …
    """

    image: Tensor
    anchor: Tensor
    object: Tensor
    iou: Tensor
    rank: Tensor


@dataclass(frozen=True)
class IoUThreshold:
    """T_I of eq. 8, the IoU above which an anchor is assigned to an object.

    Attributes:
        base_iou: T_b.
        growth: k.
        exponent: p.
        min_area: A_s in px².
        dynamic: False for base_iou at every size.
    """

    base_iou: float
    growth: float
    exponent: float
    min_area: float
    dynamic: bool = True

    def __call__(self, sides: Tensor) -> Tensor:
        """Thresholds (…) of objects with sides (…, 2), width and height in px of the network input."""
        if not self.dynamic:
            return torch.full_like(sides[..., 0], self.base_iou)
        threshold = self.base_iou + self.growth * (sides.prod(-1).sqrt() / self.min_area) ** self.exponent
        return threshold.clamp(min=self.base_iou)


class AnchorMiner:
    """Local one-to-many assignment of anchors to objects.

    Args:
        scales, ratios: anchor sides in strides of their level, and heights divided by widths.
        threshold: IoU above which an anchor is assigned to an object.
        refined: comparison of the objects with the head's boxes instead of the static anchors.
        max_positives: greatest number of positives per object.
        min_positives: number of positives that an object gets by anchor IoU when fewer pass the threshold.
    """

    def __init__(
        self,
        scales: Sequence[float],
        ratios: Sequence[float],
        threshold: IoUThreshold,
        *,
        refined: bool,
        max_positives: int,
        min_positives: int,
    ) -> None:
        shapes = [(scale / math.sqrt(ratio), scale * math.sqrt(ratio)) for scale in scales for ratio in ratios]
        self.shapes = torch.tensor(shapes)  # (A, 2), width and height in strides
        self.threshold, self.refined = threshold, refined
        self.max_positives, self.min_positives = max_positives, min_positives
        # A box whose center lies further from the anchor's than this share of the anchor's longest side has an IoU
        # below base_iou, whatever its size: an enclosing box of the least allowed IoU is 1 / base_iou times as long.
        self.reach = math.ceil(self.shapes.max().item() * (1 / threshold.base_iou - 1) / 2)

    @property
    def num_anchors(self) -> int:
        """Anchors per token, A."""
        return len(self.shapes)

    def anchors(self, grid: TokenGrid) -> Tensor:
        """All anchors of a pyramid, (B, S, A, 4) normalised cxcywh."""
        sides = grid.cell_sizes.unsqueeze(2) * self.shapes.to(grid.centers.device)
        return torch.cat([grid.centers.unsqueeze(2).expand_as(sides), sides], -1)

    @torch.no_grad()
    def mine(self, targets: BatchTargets, grid: TokenGrid, refined_boxes: BoxesAt) -> MinedPositives:
        """Assign anchors to the objects of a batch.

        Above the threshold an anchor is assigned to the one object it overlaps most; an object with fewer than
        `min_positives` gets its best anchors, shared ones if necessary.

        Args:
            targets: padded ground truth.
            grid: positions of the tokens.
            refined_boxes: the head's boxes at given anchors, used if `refined`.

        Returns:
            The positive anchors.
        """
        image, object_ = _flatten(targets)
        boxes = targets.boxes[image, object_]
        tokens, inside = self._nearby_tokens(boxes, image, grid)
        shape = torch.arange(self.num_anchors, device=image.device)
        anchor = (tokens.unsqueeze(-1) * self.num_anchors + shape).flatten(1)
        inside = inside.repeat_interleave(self.num_anchors, 1)  # (N, C)
        anchor_boxes = self._anchor_boxes(anchor, image, grid)
        anchor_iou = paired_iou(anchor_boxes, boxes.unsqueeze(1))[0].masked_fill(~inside, -1)
        iou = anchor_iou
        if self.refined:
            candidates = refined_boxes(image.unsqueeze(1).expand_as(anchor), anchor)
            iou = paired_iou(candidates, boxes.unsqueeze(1))[0].masked_fill(~inside, -1)
        sides = boxes[:, 2:] * targets.sizes[image].flip(-1)
        threshold = self.threshold(sides).unsqueeze(1)
        anchors_per_image = grid.centers.shape[1] * self.num_anchors
        slots = image.unsqueeze(1) * anchors_per_image + anchor  # one number for each anchor of the batch
        positive, rank = self._assign(slots, iou, anchor_iou, iou > threshold)
        row, column = positive.nonzero(as_tuple=True)
        return MinedPositives(
            image[row], anchor[row, column], object_[row], iou[row, column].clamp(min=0), rank[row, column]
        )

    def _nearby_tokens(self, boxes: Tensor, image: Tensor, grid: TokenGrid) -> tuple[Tensor, Tensor]:
        """Tokens (N, L · (2 · reach + 1)²) of the cells around each center, on every level; True for existing ones."""
        span = torch.arange(-self.reach, self.reach + 1, device=boxes.device)
        centers = boxes[:, :2] * grid.valid_ratios[image]  # of the padded image
        tokens, inside = [], []
        for (height, width), start in zip(grid.spatial_shapes, grid.level_start_index, strict=False):
            column = (centers[:, :1] * width).long() + span  # (N, 2 · reach + 1)
            row = (centers[:, 1:] * height).long() + span
            exists = ((row >= 0) & (row < height)).unsqueeze(2) & ((column >= 0) & (column < width)).unsqueeze(1)
            index = row.clamp(0, height - 1).unsqueeze(2) * width + column.clamp(0, width - 1).unsqueeze(1)
            tokens.append(start + index.flatten(1))
            inside.append(exists.flatten(1))
        found, exists = torch.cat(tokens, 1), torch.cat(inside, 1)
        if grid.key_padding_mask is not None:
            exists &= ~grid.key_padding_mask[image.unsqueeze(1), found]
        return found, exists

    def _anchor_boxes(self, anchor: Tensor, image: Tensor, grid: TokenGrid) -> Tensor:
        token, shape = anchor // self.num_anchors, anchor % self.num_anchors
        sides = grid.cell_sizes[image.unsqueeze(1), token] * self.shapes.to(anchor.device)[shape]
        return torch.cat([grid.centers[image.unsqueeze(1), token], sides], -1)

    def _assign(self, slots: Tensor, iou: Tensor, anchor_iou: Tensor, passes: Tensor) -> tuple[Tensor, Tensor]:
        """Positives among the candidates (N, C), and their rank among those of their object."""
        wins = passes & _wins_slot(slots, torch.where(passes, iou, -1))
        wins &= _rank(torch.where(wins, iou, -1)) < self.max_positives
        missing = (self.min_positives - wins.sum(1, keepdim=True)).clamp(min=0)
        claimed = torch.isin(slots, slots[wins])
        preference = torch.where(wins, -1, anchor_iou * (1 - CLAIMED_DISCOUNT * claimed))
        positive = wins | ((_rank(preference) < missing) & (preference >= 0))
        return positive, _rank(torch.where(positive, iou + wins, -2))  # those above the threshold come first


def query_positives(positives: MinedPositives, batch: int, max_queries: int) -> tuple[Tensor, Tensor]:
    """Positives as padded queries: each object's best first, then each object's second, and so on.

    Args:
        positives: positive anchors of the batch.
        batch: number of images B.
        max_queries: greatest number of queries per image.

    Returns:
        anchor (B, Q) and assignment (B, Q) with Q ≥ 1; padding has anchor 0 and assignment `IGNORE`.
    """
    order = _lexsort(positives.image, positives.rank.float() - positives.iou.clamp(0, 1) / 2)
    image = positives.image[order]
    counts = torch.bincount(image, minlength=batch)
    place = torch.arange(len(image), device=image.device) - (counts.cumsum(0) - counts)[image]
    kept = place < max_queries
    width = min(max(int(counts.max()), 1), max_queries)
    anchor = counts.new_zeros(batch, width)
    assignment = counts.new_full((batch, width), IGNORE)
    anchor[image[kept], place[kept]] = positives.anchor[order][kept]
    assignment[image[kept], place[kept]] = positives.object[order][kept]
    return anchor, assignment


def _flatten(targets: BatchTargets) -> tuple[Tensor, Tensor]:
    """Image and position in it of every object of the batch, (N,) each."""
    counts = torch.tensor(targets.counts)
    image = torch.repeat_interleave(torch.arange(len(counts)), counts)
    object_ = torch.arange(len(image)) - (counts.cumsum(0) - counts)[image]
    return image.to(targets.boxes.device), object_.to(targets.boxes.device)


def _wins_slot(slots: Tensor, quality: Tensor) -> Tensor:
    """Mark the best of all candidates for an anchor; of equals the first object's wins. (N, C) → (N, C)."""
    flat = slots.flatten()
    by_quality = quality.flatten().argsort(descending=True, stable=True)
    order = by_quality[flat[by_quality].argsort(stable=True)]  # by anchor, then best first, then first object
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = flat[order][1:] != flat[order][:-1]
    wins = torch.zeros_like(first)
    wins[order] = first
    return wins.view_as(slots)


def _rank(quality: Tensor) -> Tensor:
    """Place of each entry in its row, best first. (N, C) → (N, C)."""
    return quality.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def _lexsort(major: Tensor, minor: Tensor) -> Tensor:
    """Order by `major`, then by `minor`."""
    order = minor.argsort(stable=True)
    return order[major[order].argsort(stable=True)]
