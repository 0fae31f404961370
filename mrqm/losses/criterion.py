"""Losses of the model in training, the same for every branch of predictions, given their assignment to objects.

Main queries are assigned by Hungarian matching; denoising and mined queries have known objects (eq. 10 of Fu et al.,
2024, needs no matching); dense anchors are assigned by mining. Predictions inside ignored regions that are assigned to
no object have no loss, because nothing is annotated there.

Legend: N layers, B batch, Q predictions, K classes, S tokens, A anchors per token, P positives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from mrqm.config import LossConfig
from mrqm.losses.classification import CLASSIFICATION_LOSSES, ClassificationLoss
from mrqm.losses.ignored_regions import ignored_tokens, leave_ignored
from mrqm.losses.matcher import HungarianMatcher
from mrqm.models.iou_aware_head import DensePredictions
from mrqm.models.mining import MinedPositives
from mrqm.models.tokens import TokenGrid
from mrqm.ops.boxes import paired_iou
from mrqm.structures.targets import IGNORE, BatchTargets, batch_targets, gather_targets


class Criterion(nn.Module):
    """Named, unweighted losses of a training step.

    Args:
        matcher: matcher of main queries and objects.
        classification_loss: loss from `mrqm.losses.classification`.
        mined_encoder: supervise the encoder's proposals by the mined anchors instead of one-to-one matching.
    """

    def __init__(
        self, matcher: HungarianMatcher, classification_loss: ClassificationLoss, *, mined_encoder: bool
    ) -> None:
        super().__init__()
        self.matcher, self.classification_loss, self.mined_encoder = matcher, classification_loss, mined_encoder

    def forward(self, outputs: Mapping[str, Any], targets: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Compute the losses of the outputs of `MRQM` in training.

        Args:
            outputs: outputs of `MRQM` with targets given.
            targets: ground truth, one dict per image (see `mrqm`).

        Returns:
            `loss_class`, `loss_bbox`, `loss_giou` of the last layer, with suffix `_{layer}` of the others, `_enc`,
            `_dn`, `_mined` and `_dense`, and `loss_salience` where the model has salience scores; each is a sum over
            predictions divided by the positives of all ranks.
        """
        truth = batch_targets(targets)
        branches = self._branches(outputs, truth)
        dense = outputs.get("dense_outputs")
        counts = [(assignment[0] >= 0).sum() for _, _, assignment in branches.values()]
        if dense is not None:
            counts.append(counts[0].new_tensor(len(dense["positives"].image)))
        positives = _normalizers(torch.stack(counts).float())

        losses: dict[str, Tensor] = {}
        for (name, (logits, boxes, assignment)), count in zip(branches.items(), positives, strict=False):
            per_layer = self._query_terms(logits, boxes, assignment, truth)
            for kind, values in per_layer.items():
                losses |= _named(f"loss_{kind}", name, values / count)
        if dense is not None:
            terms = self._dense_terms(dense["predictions"], dense["positives"], outputs["grid"], truth)
            losses |= {f"loss_{kind}_dense": value / positives[-1] for kind, value in terms.items()}
            if self.mined_encoder:
                terms = self._token_terms(outputs, dense["predictions"], dense["positives"], truth)
                losses |= {f"loss_{kind}_enc": value / positives[-1] for kind, value in terms.items()}
            if (salience := outputs.get("salience_logits")) is not None:
                losses["loss_salience"] = self._salience_term(salience, dense, outputs["grid"], truth) / positives[-1]
        return losses

    def _branches(self, outputs: Mapping[str, Any], truth: BatchTargets) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Collect (N, B, Q, ·) logits, boxes and assignment of every branch of queries."""
        main = outputs["aux_outputs"]
        logits, boxes = main["pred_logits"], main["pred_boxes"]
        if not self.mined_encoder:
            encoder = outputs["encoder_outputs"]
            logits = torch.cat([logits, encoder["pred_logits"].unsqueeze(0)])
            boxes = torch.cat([boxes, encoder["pred_boxes"].unsqueeze(0)])
        assignment = leave_ignored(self.matcher(logits, boxes, truth), boxes, truth)
        layers = len(main["pred_logits"])
        branches = {"": (logits[:layers], boxes[:layers], assignment[:layers])}
        if not self.mined_encoder:
            branches["_enc"] = (logits[layers:], boxes[layers:], assignment[layers:])
        for name, suffix in (("denoising_outputs", "_dn"), ("mined_outputs", "_mined")):
            if branch := outputs.get(name):
                logits, boxes = branch["pred_logits"], branch["pred_boxes"]
                branches[suffix] = (logits, boxes, branch["assignment"].expand(logits.shape[:-1]))
        return branches

    def _query_terms(self, logits: Tensor, boxes: Tensor, assignment: Tensor, truth: BatchTargets) -> dict[str, Tensor]:
        """Sum the losses of each layer, (N,) each."""
        target_boxes, labels = gather_targets(truth, assignment)
        found = assignment >= 0
        iou, giou = paired_iou(boxes, target_boxes)
        positive = F.one_hot(labels, logits.shape[-1]).bool() & found.unsqueeze(-1)
        quality = iou.detach().unsqueeze(-1) * positive
        counted = (assignment != IGNORE).unsqueeze(-1)
        bbox = F.l1_loss(boxes, target_boxes, reduction="none").sum(-1)
        costs = self.classification_loss(_full_precision(logits), positive, quality) * counted
        return {
            "class": costs.sum((1, 2, 3)),
            "bbox": (bbox * found).sum((1, 2)),
            "giou": ((1 - giou) * found).sum((1, 2)),
        }

    def _dense_terms(
        self, predictions: DensePredictions, positives: MinedPositives, grid: TokenGrid, truth: BatchTargets
    ) -> dict[str, Tensor]:
        """Sum the losses of the head's anchors."""
        boxes = predictions.boxes_at(positives.image, positives.anchor)  # (P, 4)
        logits = predictions.logits.flatten(1, 2)  # (B, S·A, K)
        counted = ~ignored_tokens(grid, truth).repeat_interleave(predictions.num_shapes, 1)
        return self._positive_terms(logits, counted, boxes, positives.image, positives.anchor, positives.object, truth)

    def _token_terms(
        self,
        outputs: Mapping[str, Any],
        predictions: DensePredictions,
        positives: MinedPositives,
        truth: BatchTargets,
    ) -> dict[str, Tensor]:
        """Sum the losses of the encoder's proposals, each token assigned to the object of its best mined anchor."""
        encoder, grid = outputs["encoder_outputs"], outputs["grid"]
        token, boxes = positives.anchor // predictions.num_shapes, encoder["mined_boxes"]
        counted = ~ignored_tokens(grid, truth)
        return self._positive_terms(
            encoder["token_logits"], counted, boxes, positives.image, token, positives.object, truth
        )

    def _salience_term(self, logits: Tensor, dense: Mapping[str, Any], grid: TokenGrid, truth: BatchTargets) -> Tensor:
        """Sum the focal loss of F2's salience (B, H_2·W_2): the tokens with mined anchors against all others."""
        positives, counted = dense["positives"], ~ignored_tokens(grid, truth)[:, : logits.shape[1]]
        token = positives.anchor // dense["predictions"].num_shapes
        low = token < logits.shape[1]
        salient = torch.zeros_like(logits)
        salient[positives.image[low], token[low]] = 1
        costs = sigmoid_focal_loss(_full_precision(logits), salient)
        return (costs * (counted | salient.bool())).sum()

    def _positive_terms(
        self,
        logits: Tensor,
        counted: Tensor,
        boxes: Tensor,
        image: Tensor,
        index: Tensor,
        object_: Tensor,
        truth: BatchTargets,
    ) -> dict[str, Tensor]:
        """Sum the losses of dense predictions (B, S, K): P are assigned to objects, the others to the background."""
        target_boxes, labels = truth.boxes[image, object_], truth.labels[image, object_]
        iou, giou = paired_iou(boxes, target_boxes)
        positive = torch.zeros_like(logits, dtype=torch.bool)
        positive[image, index, labels] = True
        quality = torch.zeros_like(logits, dtype=iou.dtype)
        quality[image, index, labels] = iou.detach()
        counted = counted.clone()
        counted[image, index] = True
        costs = self.classification_loss(_full_precision(logits), positive, quality) * counted.unsqueeze(-1)
        return {
            "class": costs.sum(),
            "bbox": F.l1_loss(boxes, target_boxes, reduction="sum"),
            "giou": (1 - giou).sum(),
        }


def build_criterion(config: LossConfig) -> Criterion:
    """Build the criterion of a configuration."""
    costs = config.matcher_costs
    return Criterion(
        HungarianMatcher(costs.classification, costs.bbox, costs.giou),
        CLASSIFICATION_LOSSES[config.classification],
        mined_encoder=config.encoder_supervision == "mined",
    )


def total_loss(losses: Mapping[str, Tensor], config: LossConfig) -> Tensor:
    """Sum the criterion's losses with their weights.

    Args:
        losses: unweighted losses by name, as from `Criterion`.
        config: weights of the losses and branches.

    Returns:
        The scalar loss to minimise.
    """
    own = config.loss_weights
    weights = {"class": own.classification, "bbox": own.bbox, "giou": own.giou, "salience": own.salience}
    branches = {"mined": config.one_to_many.mined_loss_weight, "dense": config.one_to_many.dense_loss_weight}
    terms = []
    for name, value in losses.items():
        _, kind, *suffix = name.split("_")  # the suffix is a layer or a branch
        terms.append(value * weights[kind] * branches.get("".join(suffix), 1.0))
    return torch.stack(terms).sum()


def _full_precision(values: Tensor) -> Tensor:
    """Convert values shortened by autocast to float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _normalizers(counts: Tensor) -> Tensor:
    """Sum counts over ranks, at least 1, divided by the number of ranks, as DistributedDataParallel averages."""
    if not (dist.is_available() and dist.is_initialized()):
        return counts.clamp(min=1)
    dist.all_reduce(counts)
    return counts.clamp(min=1) / dist.get_world_size()


def _named(kind: str, suffix: str, per_layer: Tensor) -> dict[str, Tensor]:
    """Name the losses of a branch: per layer in the main branch, the last one without suffix; summed in the others."""
    if suffix:
        return {f"{kind}{suffix}": per_layer.sum()}
    *earlier, last = per_layer.unbind()
    return {kind: last} | {f"{kind}_{layer}": value for layer, value in enumerate(earlier)}
