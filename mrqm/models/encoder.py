"""Scale-Aware Encoder (Fu et al., 2024, eq. 1-7) and the full-pyramid encoder for comparison.

F2 holds three quarters of the pyramid's tokens. The Scale-Aware Encoder refines the few high-level tokens often and
the many low-level ones seldom; both always attend to all levels.

Optionally only the most salient tokens of F2 are refined, see `salience`; F2's feed-forward may have another width.

Legend: B batch, D hidden_dim, L levels, S = Σ H_l·W_l, tokens of F2 first, R refined tokens of F2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mrqm.config import ModelConfig
from mrqm.models.backbone import STRIDES
from mrqm.models.layers import FeedForward
from mrqm.models.salience import RefinedTokens, Salience
from mrqm.models.tokens import TokenGrid
from mrqm.ops.deformable_attention import DeformableAttention


class EncoderLayer(nn.Module):
    """Post-norm deformable attention and feed-forward: DeformAttn of eq. 2 and 5 with its residuals."""

    def __init__(self, dim: int, num_heads: int, num_levels: int, num_points: int, ffn_dim: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(dim, num_heads, num_levels, num_points)
        self.norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, ffn_dim)

    def forward(
        self, tokens: Tensor, part: slice | Tensor, memory: Tensor, position: Tensor, grid: TokenGrid
    ) -> Tensor:
        """Update the tokens of one part of the pyramid.

        Args:
            tokens: (B, Q, D), the queries: the tokens of that part before this layer.
            part: slice of the pyramid's tokens, or indices (B, Q) of tokens.
            memory: (B, S, D), keys and values.
            position: (B, S, D), sine and level embeddings.
            grid: positions of the tokens.

        Returns:
            (B, Q, D).
        """
        reference_points = _take(grid.centers * grid.valid_ratios.unsqueeze(1), part)
        attended = self.attention(
            tokens + _take(position, part), reference_points, memory, grid.spatial_shapes, grid.key_padding_mask
        )
        return self.feed_forward(self.norm(tokens + attended))


class PositionedEncoder(nn.Module):
    """Base of both encoders: a learned embedding of each level on top of the sine positions.

    Attributes:
        salience: score of the tokens of F2 by which the refined ones are chosen; None if all are refined.
    """

    salience: Salience | None

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
    """An update of F_H = concat(F3, F4, F5) by each of `high_level`, then one of F_L = F2 by `low_level`."""

    def __init__(self, high_level: Sequence[EncoderLayer], low_level: EncoderLayer) -> None:
        super().__init__()
        self.high_level, self.low_level = nn.ModuleList(high_level), low_level

    def forward(
        self, memory: Tensor, position: Tensor, grid: TokenGrid, refined: RefinedTokens | None = None
    ) -> Tensor:
        """F (B, S, D) → F'' (B, S, D).

        Args:
            memory: (B, S, D), F.
            position: (B, S, D), sine and level embeddings.
            grid: positions of the tokens.
            refined: tokens of F2 to update; None for all.

        Returns:
            (B, S, D), F''.
        """
        start = grid.level_start_index[1]
        low_part, high_part = slice(0, start), slice(start, None)
        low, high = memory[:, low_part], memory[:, high_part]  # eq. 1: split
        for layer in self.high_level:
            high = layer(high, high_part, torch.cat([low, high], 1), position, grid)  # eq. 2-4: F_H', then F'
        memory = torch.cat([low, high], 1)
        if refined is None:
            low = self.low_level(low, low_part, memory, position, grid)  # eq. 5-6: F_L'
        else:
            low = self._refine(low, refined, memory, position, grid)
        return torch.cat([low, high], 1)  # eq. 7: F''

    def _refine(self, low: Tensor, refined: RefinedTokens, memory: Tensor, position: Tensor, grid: TokenGrid) -> Tensor:
        """F_L (B, H_2·W_2, D) with the chosen tokens updated and all others as they were."""
        before = _take(low, refined.index)
        after = self.low_level(before, refined.index, memory, position, grid)
        after = torch.where(refined.chosen.unsqueeze(-1), after, before)
        return low.scatter(1, refined.index.unsqueeze(-1).expand_as(after), after)


class ScaleAwareEncoder(PositionedEncoder):
    """Scale-Aware blocks, one after the other.

    Args:
        dim, num_levels: D and L.
        blocks: blocks.
        salience: score that chooses the tokens of F2 to refine; None refines all.
    """

    def __init__(
        self, dim: int, num_levels: int, blocks: Sequence[ScaleAwareBlock], salience: Salience | None = None
    ) -> None:
        super().__init__(dim, num_levels)
        self.blocks, self.salience = nn.ModuleList(blocks), salience

    def forward(self, memory: Tensor, grid: TokenGrid) -> Tensor:
        """F (B, S, D) → F'' (B, S, D).

        Args:
            memory: (B, S, D), F.
            grid: positions of the tokens.

        Returns:
            (B, S, D), F''.
        """
        position = self.position(grid)
        refined = None if self.salience is None else self.salience.select(memory, grid)
        for block in self.blocks:
            memory = block(memory, position, grid, refined)
        return memory


class FullEncoder(PositionedEncoder):
    """Encoder of Deformable-DETR, in which every level is a query in every layer; for comparison."""

    def __init__(
        self, dim: int, num_heads: int, num_levels: int, num_points: int, ffn_dim: int, *, num_layers: int
    ) -> None:
        super().__init__(dim, num_levels)
        self.salience = None
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


def build_encoder(config: ModelConfig) -> ScaleAwareEncoder | FullEncoder:
    """Build the encoder of a configuration; (high_level_updates+1)x(blocks) is this project's notation."""
    dim, levels, refinement = config.hidden_dim, len(STRIDES), config.refinement
    attention = (dim, config.num_heads, levels, config.num_points)
    if config.encoder == "full":
        return FullEncoder(*attention, config.ffn_dim, num_layers=config.full_encoder_layers)
    blocks = [
        ScaleAwareBlock(
            [EncoderLayer(*attention, config.ffn_dim) for _ in range(refinement.high_level_updates)],
            EncoderLayer(*attention, refinement.low_level_ffn_dim or config.ffn_dim),
        )
        for _ in range(refinement.blocks)
    ]
    share = refinement.low_level_share
    return ScaleAwareEncoder(dim, levels, blocks, Salience(dim, share) if share < 1 else None)


def _take(values: Tensor, part: slice | Tensor) -> Tensor:
    """(B, S, ·) → (B, Q, ·), the values of a slice of the tokens or of those with indices (B, Q)."""
    if isinstance(part, slice):
        return values[:, part]
    return values.take_along_dim(part.unsqueeze(-1), 1)
