"""Queries of the decoder.

Legend: B batch, Q queries, D hidden_dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class QueryBranch:
    """Queries that are decoded together and attend only to each other in self-attention.

    Attributes:
        content: (B, Q, D) embeddings.
        reference_boxes: (B, Q, 4), normalised cxcywh.
        attn_mask: (B, Q, Q), True = blocked, or None.
        padding: (B, Q), True = fills the batch: attended by no other query and never a detection, or None.
    """

    content: Tensor
    reference_boxes: Tensor
    attn_mask: Tensor | None = None
    padding: Tensor | None = None

    def allowed(self) -> Tensor | None:
        """Attention mask (B, 1, Q, Q), True = allowed, always for a query itself; None when all attend to all."""
        if self.attn_mask is not None:
            return ~self.attn_mask.unsqueeze(1)
        if self.padding is None:
            return None
        itself = torch.eye(self.padding.shape[1], dtype=torch.bool, device=self.padding.device)
        return (~self.padding.unsqueeze(1) | itself).unsqueeze(1)
