"""Query selection and decoder of DINO (Zhang et al., 2023): mixed queries, refinement that looks forward twice.

Legend: B batch, Q queries, D hidden_dim, K classes, N decoder layers, S = Σ H_l·W_l.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrqm.models.layers import MLP, FeedForward, box_head, classification_head, sine_embedding
from mrqm.models.queries import QueryBranch
from mrqm.models.tokens import TokenGrid
from mrqm.ops.boxes import apply_deltas, to_xyxy
from mrqm.ops.deformable_attention import DeformableAttention
from mrqm.ops.nms import suppress

ABSENT_LOGIT = -100.0
CANDIDATES_PER_QUERY = 4
"""Number of candidate tokens per query where distinct ones are wanted."""


class QuerySelection(nn.Module):
    """Two-stage, mixed: positions from the best-scored encoder tokens, content learned.

    Args:
        dim, num_classes, num_queries: D, K and Q.
        proposal_scale: side of a token's proposal in cells of its level.
        query_nms_iou: tokens whose boxes overlap a better-scored one by more than this come after all others (Zhang et
            al., 2023, "Dense Distinct Query"): one-to-many supervision makes neighbours score alike, and without this
            the queries crowd on few objects. None takes the best-scored whatever they overlap.
    """

    def __init__(
        self, dim: int, num_classes: int, num_queries: int, proposal_scale: float, query_nms_iou: float | None
    ) -> None:
        super().__init__()
        self.num_queries, self.proposal_scale, self.query_nms_iou = num_queries, proposal_scale, query_nms_iou
        self.projection = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.class_head = classification_head(dim, num_classes)
        self.box_head = box_head(dim)
        self.content = nn.Embedding(num_queries, dim)
        nn.init.zeros_(self.content.weight)  # queries begin alike and differ by their boxes, not by random content

    def forward(self, memory: Tensor, grid: TokenGrid) -> tuple[QueryBranch, dict[str, Tensor]]:
        """Choose the queries of the main branch.

        Args:
            memory: (B, S, D), F''.
            grid: positions of the tokens.

        Returns:
            The branch, and the encoder's outputs: `pred_logits` (B, Q, K) and `pred_boxes` (B, Q, 4) of the chosen
            tokens, `token_logits` (B, S, K) and `token_features` (B, S, D) of all.
        """
        features = self.projection(memory)
        logits = self.class_head(features)
        scores = logits.detach().amax(-1)
        if grid.key_padding_mask is not None:
            scores = scores.masked_fill(grid.key_padding_mask, float("-inf"))
        chosen = self._choose(scores, features, grid)  # (B, Q)
        image = torch.arange(chosen.shape[0], device=chosen.device).unsqueeze(1)
        boxes = self.boxes_at(features, grid, image, chosen)
        padding = None if grid.key_padding_mask is None else grid.key_padding_mask[image, chosen]
        content = self.content.weight[: chosen.shape[1]].expand(chosen.shape[0], -1, -1)
        outputs = {
            "pred_logits": _absent(logits[image, chosen], padding),
            "pred_boxes": boxes,
            "token_logits": logits,
            "token_features": features,
        }
        return QueryBranch(content, boxes.detach(), padding=padding), outputs

    @torch.no_grad()
    def _choose(self, scores: Tensor, features: Tensor, grid: TokenGrid) -> Tensor:
        """Tokens (B, Q) by descending score (B, S), distinct ones first."""
        num_queries, num_tokens = min(self.num_queries, scores.shape[1]), scores.shape[1]
        if self.query_nms_iou is None:
            return scores.topk(num_queries, 1).indices
        top, token = scores.topk(min(num_queries * CANDIDATES_PER_QUERY, num_tokens), 1)
        image = torch.arange(token.shape[0], device=token.device).unsqueeze(1).expand_as(token)
        boxes = to_xyxy(self.boxes_at(features, grid, image, token))
        distinct = suppress(boxes, top.float(), torch.zeros_like(token), 1, self.query_nms_iou)
        turn = torch.where(top.isinf(), 2, (~distinct).long())  # padding comes last of all
        place = torch.arange(token.shape[1], device=token.device)
        order = (turn * token.shape[1] + place).topk(num_queries, 1, largest=False).indices
        return token.gather(1, order)

    def boxes_at(self, features: Tensor, grid: TokenGrid, image: Tensor, token: Tensor) -> Tensor:
        """Boxes of tokens: squares around their centers, refined.

        Args:
            features: (B, S, D), `token_features`.
            grid: positions of the tokens.
            image: (…) image of each token.
            token: (…) index of each token into S.

        Returns:
            (…, 4), normalised cxcywh.
        """
        sides = grid.cell_sizes[image, token] * self.proposal_scale
        proposals = torch.cat([grid.centers[image, token], sides], -1)
        return apply_deltas(self.box_head(features[image, token]), proposals)


class DecoderLayer(nn.Module):
    """Post-norm self-attention within each branch, deformable cross-attention, feed-forward."""

    def __init__(self, dim: int, num_heads: int, num_levels: int, num_points: int, ffn_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key = nn.Linear(dim, 2 * dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        for projection in (self.query_key, self.value, self.output):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)
        self.self_norm = nn.LayerNorm(dim)
        self.cross_attention = DeformableAttention(dim, num_heads, num_levels, num_points)
        self.cross_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, ffn_dim)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        reference_boxes: Tensor,
        lengths: list[int],
        allowed: list[Tensor | None],
        memory: Tensor,
        grid: TokenGrid,
    ) -> Tensor:
        """Update the queries of all branches.

        Args:
            query: (B, Q, D), the branches one after the other.
            query_pos: (B, Q, D), position embeddings.
            reference_boxes: (B, Q, 4), normalised cxcywh.
            lengths: queries of each branch.
            allowed: (B, 1, Q_b, Q_b) of each branch, True = allowed, or None.
            memory: (B, S, D), F''.
            grid: positions of the tokens.

        Returns:
            (B, Q, D).
        """
        query = self.self_norm(query + self._self_attention(query, query_pos, lengths, allowed))
        reference_points = reference_boxes * grid.valid_ratios.repeat(1, 2).unsqueeze(1)
        attended = self.cross_attention(
            query + query_pos, reference_points, memory, grid.spatial_shapes, grid.key_padding_mask
        )
        return self.feed_forward(self.cross_norm(query + attended))

    def _self_attention(
        self, query: Tensor, query_pos: Tensor, lengths: list[int], allowed: list[Tensor | None]
    ) -> Tensor:
        q, k = self._heads(self.query_key(query + query_pos), 2)
        (v,) = self._heads(self.value(query), 1)
        parts = zip(q.split(lengths, 2), k.split(lengths, 2), v.split(lengths, 2), allowed, strict=True)
        attended = [F.scaled_dot_product_attention(*part) for part in parts]
        return self.output(torch.cat(attended, 2).transpose(1, 2).flatten(2))

    def _heads(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(B, Q, parts · D) → parts × (B, M, Q, D / M)."""
        return projected.unflatten(-1, (parts, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()


class Decoder(nn.Module):
    """Decoder layers with one classification and one box head for all of them."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        ffn_dim: int,
        *,
        num_layers: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(dim, num_heads, num_levels, num_points, ffn_dim) for _ in range(num_layers)
        )
        self.query_position = MLP(2 * dim, dim, dim, num_layers=2)
        self.norm = nn.LayerNorm(dim)
        self.class_head = classification_head(dim, num_classes)
        self.box_head = box_head(dim)

    def forward(self, branches: Sequence[QueryBranch], memory: Tensor, grid: TokenGrid) -> list[dict[str, Tensor]]:
        """Decode all branches in one pass.

        Args:
            branches: queries of each branch.
            memory: (B, S, D), F''.
            grid: positions of the tokens.

        Returns:
            For each branch `pred_logits` (N, B, Q, K) and `pred_boxes` (N, B, Q, 4), normalised cxcywh.
        """
        query = torch.cat([branch.content for branch in branches], 1)
        reference = torch.cat([branch.reference_boxes for branch in branches], 1)
        refined = reference  # the same boxes, still attached to the layer that made them
        padding = _joined_padding(branches)
        lengths = [branch.content.shape[1] for branch in branches]
        allowed = [branch.allowed() for branch in branches]
        logits, boxes = [], []
        for layer in self.layers:
            query_pos = self.query_position(sine_embedding(reference, memory.shape[-1] // 2))
            query = layer(query, query_pos, reference, lengths, allowed, memory, grid)
            hidden = self.norm(query)
            deltas = self.box_head(hidden)
            logits.append(_absent(self.class_head(hidden), padding))
            boxes.append(apply_deltas(deltas, refined))  # look forward twice: also trains the previous layer's box
            refined = apply_deltas(deltas, reference)
            reference = refined.detach()
        per_branch = zip(torch.stack(logits).split(lengths, 2), torch.stack(boxes).split(lengths, 2), strict=True)
        return [
            {"pred_logits": branch_logits, "pred_boxes": branch_boxes} for branch_logits, branch_boxes in per_branch
        ]


def _joined_padding(branches: Sequence[QueryBranch]) -> Tensor | None:
    """(B, Q) of all branches, or None when none is padded."""
    if all(branch.padding is None for branch in branches):
        return None
    none = [torch.zeros_like(branch.content[..., 0], dtype=torch.bool) for branch in branches]
    return torch.cat([n if b.padding is None else b.padding for n, b in zip(none, branches, strict=True)], 1)


def _absent(logits: Tensor, padding: Tensor | None) -> Tensor:
    """Logits (B, Q, K) at which padding has no loss, matches last and is never detected."""
    return logits if padding is None else logits.masked_fill(padding.unsqueeze(-1), ABSENT_LOGIT)
