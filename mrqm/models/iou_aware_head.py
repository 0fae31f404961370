"""The IoU-aware auxiliary head: dense predictions on F'' and mined queries (Fu et al., 2024, eq. 8-10). Training only.

Legend: B batch, D hidden_dim, K classes, S tokens, A anchors per token, Q mined queries.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mrqm.models.layers import MLP, box_head, classification_head, sine_embedding
from mrqm.models.mining import AnchorMiner, MinedPositives, query_positives
from mrqm.models.queries import QueryBranch
from mrqm.models.tokens import TokenGrid
from mrqm.ops.boxes import apply_deltas
from mrqm.structures.targets import BatchTargets


@dataclass(frozen=True)
class DensePredictions:
    """Predictions of the head at every anchor.

    Attributes:
        logits: (B, S, A, K).
        deltas: (B, S, A, 4), relative to the anchors.
        anchors: (B, S, A, 4), normalised cxcywh.
    """

    logits: Tensor
    deltas: Tensor
    anchors: Tensor

    @property
    def num_shapes(self) -> int:
        """Anchors per token, A."""
        return self.logits.shape[2]

    def boxes_at(self, image: Tensor, anchor: Tensor) -> Tensor:
        """Predicted boxes of anchors.

        Args:
            image: (…) image of each anchor.
            anchor: (…) index of each anchor into S·A.

        Returns:
            (…, 4), normalised cxcywh.
        """
        return apply_deltas(self.deltas.flatten(1, 2)[image, anchor], self.anchors.flatten(1, 2)[image, anchor])


class IoUAwareHead(nn.Module):
    """Head that predicts at every anchor, mines the positive ones and turns them into decoder queries."""

    def __init__(self, dim: int, num_classes: int, miner: AnchorMiner, max_queries: int) -> None:
        super().__init__()
        self.miner, self.max_queries = miner, max_queries
        anchors = miner.num_anchors
        self.projection = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.class_head = classification_head(dim, anchors * num_classes)
        self.box_head = box_head(dim, anchors * 4)
        self.embedding = MLP(dim, dim, dim, num_layers=2)  # E of eq. 9
        self.from_features = nn.Linear(dim, dim)
        self.from_position = nn.Linear(2 * dim, dim)

    def forward(
        self, memory: Tensor, grid: TokenGrid, targets: BatchTargets
    ) -> tuple[DensePredictions, MinedPositives, QueryBranch, Tensor]:
        """Mine positive queries.

        Args:
            memory: F'', (B, S, D).
            grid: positions of the tokens.
            targets: ground truth.

        Returns:
            The dense predictions, the positive anchors, and of those that become queries the branch and its
            assignment (B, Q).
        """
        features = self.projection(memory)
        predictions = DensePredictions(
            logits=self.class_head(features).unflatten(-1, (self.miner.num_anchors, -1)),
            deltas=self.box_head(features).unflatten(-1, (self.miner.num_anchors, 4)),
            anchors=self.miner.anchors(grid),
        )
        positives = self.miner.mine(targets, grid, predictions.boxes_at)
        anchor, assignment = query_positives(positives, len(memory), self.max_queries)
        return predictions, positives, self._queries(memory, predictions.anchors, anchor, assignment), assignment

    def _queries(self, memory: Tensor, anchors: Tensor, anchor: Tensor, assignment: Tensor) -> QueryBranch:
        """Q_a = Linear(PE(C_pos)) + Linear(E(F''_pos)) (eq. 9)."""
        positions = anchors.flatten(1, 2).take_along_dim(anchor.unsqueeze(-1), 1).clamp(0, 1)  # C_pos, (B, Q, 4)
        features = memory.take_along_dim((anchor // self.miner.num_anchors).unsqueeze(-1), 1)  # F''_pos, (B, Q, D)
        encoded = sine_embedding(positions, memory.shape[-1] // 2)
        content = self.from_position(encoded) + self.from_features(self.embedding(features))
        return QueryBranch(content, positions, padding=assignment < 0)
