"""Predictions that have no loss as background, because nothing is annotated where they lie.

Legend: N layers, B batch, Q predictions, S tokens, M ignored regions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrqm.models.tokens import TokenGrid
from mrqm.ops.boxes import coverage, to_xyxy
from mrqm.structures.targets import BACKGROUND, IGNORE, BatchTargets

IGNORED_SHARE = 0.5
"""Least fraction of a background prediction inside one ignored region at which it has no loss."""


def ignored_tokens(grid: TokenGrid, truth: BatchTargets) -> Tensor:
    """Mark the tokens that have no loss as background: padding, and centers inside an ignored region.

    Args:
        grid: tokens of the feature pyramid.
        truth: padded ground truth.

    Returns:
        (B, S) bool, True for ignored tokens.
    """
    ignored = torch.zeros(grid.centers.shape[:2], dtype=torch.bool, device=grid.centers.device)
    if grid.key_padding_mask is not None:
        ignored = ignored | grid.key_padding_mask
    if truth.ignore_boxes is None:
        return ignored
    left, top, right, bottom = to_xyxy(truth.ignore_boxes).unsqueeze(-1).unbind(2)  # (B, M, 1) each
    parts = []
    for (height, width), start, end in zip(
        grid.spatial_shapes, grid.level_start_index, grid.level_start_index[1:], strict=False
    ):
        centers = grid.centers[:, start:end].unflatten(1, (height, width))
        x, y = centers[:, 0, :, 0].unsqueeze(1), centers[:, :, 0, 1].unsqueeze(1)  # (B, 1, W), (B, 1, H)
        columns, rows = ((x >= left) & (x < right)).float(), ((y >= top) & (y < bottom)).float()
        parts.append((rows.transpose(1, 2) @ columns).flatten(1) > 0)  # regions are rectangles: rows × columns
    return ignored | torch.cat(parts, 1)


def leave_ignored(assignment: Tensor, boxes: Tensor, truth: BatchTargets) -> Tensor:
    """Assign background predictions inside ignored regions to `IGNORE`.

    Args:
        assignment: (N, B, Q) index of each prediction's object, or `BACKGROUND`.
        boxes: (N, B, Q, 4) normalised cxcywh.
        truth: padded ground truth.

    Returns:
        (N, B, Q) assignment.
    """
    if truth.ignore_boxes is None:
        return assignment
    inside = coverage(boxes.detach(), truth.ignore_boxes.expand(len(boxes), -1, -1, -1)) >= IGNORED_SHARE
    return assignment.masked_fill((assignment == BACKGROUND) & inside, IGNORE)
