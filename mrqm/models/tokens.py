"""Pyramid as one sequence of tokens, with the position of each token.

Legend: B batch, D hidden_dim, L levels, S = Σ H_l·W_l.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mrqm.models.backbone import mask_at
from mrqm.models.layers import sine_embedding


@dataclass(frozen=True)
class TokenGrid:
    """Positions of the tokens of a pyramid.

    Attributes:
        spatial_shapes: (H_l, W_l), finest first.
        centers: (B, S, 2), x and y in [0, 1] of the unpadded image.
        cell_sizes: (B, S, 2), width and height of a cell in the same units.
        valid_ratios: (B, 2), unpadded share of width and height; times `centers` they are relative to the padded image.
        key_padding_mask: (B, S), True = padding, or None.
    """

    spatial_shapes: list[tuple[int, int]]
    centers: Tensor
    cell_sizes: Tensor
    valid_ratios: Tensor
    key_padding_mask: Tensor | None

    @property
    def level_start_index(self) -> list[int]:
        """First token of each level, and S at the end."""
        starts = [0]
        for height, width in self.spatial_shapes:
            starts.append(starts[-1] + height * width)
        return starts

    def position_embedding(self, dim: int) -> Tensor:
        """Sine embedding of the centers, (B, S, D)."""
        return sine_embedding(self.centers, dim // 2)


def token_grid(features: Sequence[Tensor], masks: Tensor | None) -> TokenGrid:
    """Lay out the tokens of F2..F5.

    Args:
        features: (B, D, H_l, W_l) of each level.
        masks: (B, H, W), True = padding right and below, or None.

    Returns:
        The positions of the tokens.
    """
    batch, device = features[0].shape[0], features[0].device
    shapes = [(x.shape[-2], x.shape[-1]) for x in features]
    if masks is None:
        valid_ratios = torch.ones(batch, 2, device=device)
    else:
        widths, heights = (~masks[:, 0, :]).sum(-1), (~masks[:, :, 0]).sum(-1)
        size = torch.tensor([masks.shape[-1], masks.shape[-2]], device=device)
        valid_ratios = torch.stack([widths, heights], -1) / size
    centers, cells = [], []
    for height, width in shapes:
        rows, columns = torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5
        y, x = torch.meshgrid(rows / height, columns / width, indexing="ij")
        centers.append(torch.stack([x, y], -1).flatten(0, 1))
        cells.append(torch.tensor([1 / width, 1 / height], device=device).expand(height * width, 2))
    ratios = valid_ratios.unsqueeze(1)
    padding = None if masks is None else torch.cat([mask_at(masks, shape).flatten(1) for shape in shapes], 1)
    return TokenGrid(shapes, torch.cat(centers) / ratios, torch.cat(cells) / ratios, valid_ratios, padding)


def flatten_levels(features: Sequence[Tensor]) -> Tensor:
    """(B, D, H_l, W_l) each → (B, S, D)."""
    return torch.cat([x.flatten(2) for x in features], -1).transpose(1, 2)
