"""Scale-Aware Encoder (Fu et al., 2024, eq. 1-7) and the full-pyramid encoder for comparison.

F2 holds three quarters of the pyramid's tokens. The Scale-Aware Encoder refines the few high-level tokens often and
the many low-level ones seldom; both always attend to all levels.

Legend: B batch, D hidden_dim, L levels, S = Σ H_l·W_l, tokens of F2 first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrqm.models.layers import FeedForward
from mrqm.models.tokens import TokenGrid
from mrqm.ops.deformable_attention import DeformableAttention


class EncoderLayer(nn.Module):
    """Post-norm deformable attention and feed-forward: DeformAttn of eq. 2 and 5 with its residuals."""

    def __init__(self, dim: int, num_heads: int, num_levels: int, num_points: int, ffn_dim: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(dim, num_heads, num_levels, num_points)
        self.norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, ffn_dim)

    def forward(self, tokens: Tensor, part: slice, memory: Tensor, position: Tensor, grid: TokenGrid) -> Tensor:
        """Update the tokens of one part of the pyramid.

        Args:
            tokens: (B, Q, D), the queries: memory[:, part] before this layer.
            part: slice of the pyramid's tokens.
            memory: (B, S, D), keys and values.
            position: (B, S, D), sine and level embeddings.
            grid: positions of the tokens.

        Returns:
            (B, Q, D).
        """
        reference_points = (grid.centers * grid.valid_ratios.unsqueeze(1))[:, part]
        attended = self.attention(
            tokens + position[:, part], reference_points, memory, grid.spatial_shapes, grid.key_padding_mask
        )
        return self.feed_forward(self.norm(tokens + attended))


class PositionedEncoder(nn.Module):
    """Base of both encoders: a learned embedding of each level on top of the sine positions."""

    def __init__(self, dim: int, num_levels: int) -> None:
        super().__init__()
        self.level_embedding = nn.Parameter(torch.empty(num_levels, dim))
        nn.init.normal_(self.level_embedding, std=dim**-0.5)

    def position(self, grid: TokenGrid) -> Tensor:
        """Position embeddings, (B, S, D)."""
        per_level = zip(self.level_embedding, grid.spatial_shapes, strict=True)
        levels = torch.cat([embedding.expand(height * width, -1) for embedding, (height, width) in per_level])
        return grid.position_embedding(self.level_embedding.shape[1]) + levels


class ScaleAwareBlock(nn.Module):
    """`high_level_updates` updates of F_H = concat(F3, F4, F5), then one of F_L = F2."""

    def __init__(self, high_level_updates: int, *layer: int) -> None:
        super().__init__()
        self.high_level = nn.ModuleList(EncoderLayer(*layer) for _ in range(high_level_updates))
        self.low_level = EncoderLayer(*layer)

    def forward(self, memory: Tensor, position: Tensor, grid: TokenGrid) -> Tensor:
        """F (B, S, D) → F'' (B, S, D).

        Args:
            memory: (B, S, D), F.
            position: (B, S, D), sine and level embeddings.
            grid: positions of the tokens.

        Returns:
            (B, S, D), F''.
        """
        start = grid.level_start_index[1]
        low_part, high_part = slice(0, start), slice(start, None)
        low, high = memory[:, low_part], memory[:, high_part]  # eq. 1: split
        for layer in self.high_level:
            high = layer(high, high_part, torch.cat([low, high], 1), position, grid)  # eq. 2-4: F_H', then F'
        low = self.low_level(low, low_part, torch.cat([low, high], 1), position, grid)  # eq. 5-6: F_L'
        return torch.cat([low, high], 1)  # eq. 7: F''


class ScaleAwareEncoder(PositionedEncoder):
    """`blocks` Scale-Aware blocks; this project, not the paper, writes (high_level_updates+1)x(blocks)."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        ffn_dim: int,
        *,
        blocks: int,
        high_level_updates: int,
    ) -> None:
        super().__init__(dim, num_levels)
        layer = (dim, num_heads, num_levels, num_points, ffn_dim)
        self.blocks = nn.ModuleList(ScaleAwareBlock(high_level_updates, *layer) for _ in range(blocks))

    def forward(self, memory: Tensor, grid: TokenGrid) -> Tensor:
        """F (B, S, D) → F'' (B, S, D).

        Args:
            memory: (B, S, D), F.
            grid: positions of the tokens.

        Returns:
            (B, S, D), F''.
        """
        position = self.position(grid)
        for block in self.blocks:
            memory = block(memory, position, grid)
        return memory


class FullEncoder(PositionedEncoder):
    """Encoder of Deformable-DETR, in which every level is a query in every layer; for comparison."""

    def __init__(
        self, dim: int, num_heads: int, num_levels: int, num_points: int, ffn_dim: int, *, num_layers: int
    ) -> None:
        super().__init__(dim, num_levels)
        self.layers = nn.ModuleList(
            EncoderLayer(dim, num_heads, num_levels, num_points, ffn_dim) for _ in range(num_layers)
        )

    def forward(self, memory: Tensor, grid: TokenGrid) -> Tensor:
        """(B, S, D) → (B, S, D).

        Args:
            memory: (B, S, D), tokens of the pyramid.
            grid: positions of the tokens.

        Returns:
            (B, S, D).
        """
        position = self.position(grid)
        for layer in self.layers:
            memory = layer(memory, slice(None), memory, position, grid)
        return memory
