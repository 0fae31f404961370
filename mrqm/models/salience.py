"""Selection of the most salient tokens of F2, the only ones of it that the encoder then refines.

After Zheng et al., 2023, "Less is More: Focus Attention for Efficient DETR", and Hou et al., 2024, "Salience DETR".

Legend: B batch, D hidden_dim, S = Σ H_l·W_l, tokens of F2 first, R refined tokens of F2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mrqm.models.layers import PRIOR_LOGIT
from mrqm.models.tokens import TokenGrid


@dataclass(frozen=True)
class RefinedTokens:
    """Tokens of F2 that an image's encoder refines.

    Attributes:
        index: (B, R), most salient first.
        chosen: (B, R), False where an image with fewer tokens than others has fewer refined ones.
    """

    index: Tensor
    chosen: Tensor


class Salience(nn.Linear):
    """Score of each token of F2 for holding a small object, and the choice of the share with the highest scores."""

    def __init__(self, dim: int, share: float) -> None:
        super().__init__(dim, 1)
        nn.init.constant_(self.bias, PRIOR_LOGIT)
        self.share = share

    def logits(self, memory: Tensor, grid: TokenGrid) -> Tensor:
        """Score the tokens of F2.

        Args:
            memory: (B, S, D), F.
            grid: positions of the tokens.

        Returns:
            (B, H_2·W_2) logits.
        """
        return self(memory[:, : grid.level_start_index[1]]).squeeze(-1)

    @torch.no_grad()
    def select(self, memory: Tensor, grid: TokenGrid) -> RefinedTokens:
        """Select the tokens of F2 to refine: a share of each image's own, whatever it is padded to.

        Args:
            memory: (B, S, D), F.
            grid: positions of the tokens.

        Returns:
            The tokens.
        """
        scores = self.logits(memory, grid)
        batch, tokens = scores.shape
        valid = torch.full((batch, 1), tokens, device=scores.device)
        if grid.key_padding_mask is not None:
            padding = grid.key_padding_mask[:, :tokens]
            scores, valid = scores.masked_fill(padding, float("-inf")), (~padding).sum(1, keepdim=True)
        index = scores.topk(math.ceil(self.share * tokens), 1).indices
        rank = torch.arange(index.shape[1], device=scores.device)
        return RefinedTokens(index, rank < (self.share * valid).ceil())
