"""Multi-scale deformable attention (Zhu et al., 2020).

All callers use `deformable_attention`, so that a fused kernel can replace it without changing them.

Legend: B batch, Q queries, D hidden_dim, M heads, L levels, P points, S = Σ H_l·W_l.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shapes = Sequence[tuple[int, int]]


def deformable_attention(
    value: Tensor, spatial_shapes: Shapes, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Sum bilinear samples with attention weights (Zhu et al., 2020, eq. 3); samples outside a level are zero.

    Args:
        value: (B, S, M, D / M) values, the levels flattened one after the other.
        spatial_shapes: (H_l, W_l) of each level.
        sampling_locations: (B, Q, M, L, P, 2), x and y in [0, 1] of the padded level.
        attention_weights: (B, Q, M, L, P) weights, which sum to 1 over L and P.

    Returns:
        (B, Q, D).
    """
    batch, _, heads, head_dim = value.shape
    queries = sampling_locations.shape[1]
    # points before queries: the sum over points then runs along contiguous rows
    grids = (2 * sampling_locations - 1).permute(3, 0, 2, 4, 1, 5).flatten(1, 2)  # (L, B·M, P, Q, 2)
    weights = attention_weights.permute(3, 0, 2, 4, 1).flatten(1, 2).unsqueeze(2)  # (L, B·M, 1, P, Q)
    levels = value.permute(0, 2, 3, 1).flatten(0, 1).split([h * w for h, w in spatial_shapes], -1)
    output = value.new_zeros(batch * heads, head_dim, queries)
    for level, shape, grid, weight in zip(levels, spatial_shapes, grids, weights, strict=True):
        samples = F.grid_sample(level.unflatten(-1, shape), grid, align_corners=False)  # (B·M, D / M, P, Q)
        output = output + (samples * weight).sum(2)
    return output.view(batch, heads * head_dim, queries).transpose(1, 2)


class DeformableAttention(nn.Module):
    """Attention of every query to `num_points` places per head and level around its reference point or box."""

    def __init__(self, dim: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.sampling_offsets = nn.Linear(dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(dim, num_heads * num_levels * num_points)
        self.value_projection = nn.Linear(dim, dim)
        self.output_projection = nn.Linear(dim, dim)
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise heads to sample in evenly spread directions, each point farther out (Zhu et al., 2020)."""
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1)
        offsets = directions[:, None, None, :] * steps[None, None, :, None]  # (M, 1, P, 2)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.num_levels, -1, -1).flatten())
        for projection in (self.value_projection, self.output_projection):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        memory: Tensor,
        spatial_shapes: Shapes,
        key_padding_mask: Tensor | None,
    ) -> Tensor:
        """Attend from `query` to `memory`.

        Args:
            query: (B, Q, D), position included.
            reference_points: (B, Q, 2) points or (B, Q, 4) cxcywh boxes, in [0, 1] of the padded image.
            memory: (B, S, D).
            spatial_shapes: (H_l, W_l) of each level.
            key_padding_mask: (B, S), True = padding, or None.

        Returns:
            (B, Q, D).
        """
        value = self.value_projection(memory)
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask.unsqueeze(-1), 0)
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1)).float().softmax(-1)
        return self.output_projection(
            deformable_attention(
                value.float().unflatten(-1, (self.num_heads, -1)),
                spatial_shapes,
                self._sampling_locations(query, reference_points, spatial_shapes),
                weights.unflatten(-1, (self.num_levels, self.num_points)),
            )
        )

    def _sampling_locations(self, query: Tensor, reference_points: Tensor, spatial_shapes: Shapes) -> Tensor:
        """Place offsets in cells of the level around a point, in half sides per point around a box; float32 always."""
        shape = (self.num_heads, self.num_levels, self.num_points, 2)
        offsets = self.sampling_offsets(query).float().unflatten(-1, shape)
        reference = reference_points[:, :, None, None, None, :].float()
        if reference.shape[-1] == 2:
            cells = offsets.new_tensor([[w, h] for h, w in spatial_shapes])  # (L, 2)
            return reference + offsets / cells[:, None, :]
        return reference[..., :2] + offsets / self.num_points * reference[..., 2:] * 0.5
