"""Ground truth of a batch as padded tensors, and the assignments that say which prediction answers for which object.

Legend: B batch, N most objects in an image, M most ignored regions in an image, Q predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

BACKGROUND = -1
"""Assignment of a prediction that should find nothing."""
IGNORE = -2
"""Assignment of a prediction that costs nothing: padding, or inside an ignored region."""


@dataclass(frozen=True)
class BatchTargets:
    """Padded ground truth.

    Attributes:
        boxes: (B, N, 4) normalised cxcywh; N is at least 1, padding repeats the whole image.
        labels: (B, N).
        counts: objects of each image, on the host.
        ignore_boxes: (B, M, 4) normalised cxcywh, padded with empty boxes, or None when no image has any.
        sizes: (B, 2), unpadded height and width of the network's input.
    """

    boxes: Tensor
    labels: Tensor
    counts: list[int]
    ignore_boxes: Tensor | None
    sizes: Tensor


def batch_targets(targets: Sequence[dict[str, Tensor]]) -> BatchTargets:
    """Pad a batch of targets (see `mrqm`) on the device they are on."""
    counts = [len(target["labels"]) for target in targets]
    whole = targets[0]["boxes"].new_tensor([[0.5, 0.5, 1.0, 1.0]])
    boxes = [target["boxes"] if count else whole for target, count in zip(targets, counts, strict=True)]
    labels = [t["labels"] if count else t["labels"].new_zeros(1) for t, count in zip(targets, counts, strict=True)]
    ignored = [target["ignore_boxes"] for target in targets]
    padded = pad_sequence(boxes, batch_first=True)
    padding = torch.arange(padded.shape[1]) >= torch.tensor([len(b) for b in boxes]).unsqueeze(1)
    return BatchTargets(
        boxes=torch.where(padding.to(padded.device).unsqueeze(-1), whole, padded),
        labels=pad_sequence(labels, batch_first=True),
        counts=counts,
        ignore_boxes=pad_sequence(ignored, batch_first=True) if any(len(boxes) for boxes in ignored) else None,
        sizes=torch.stack([target["size"] for target in targets]),
    )


def gather_targets(targets: BatchTargets, assignment: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (…, B, Q, 4) and labels (…, B, Q) of the assigned objects; unassigned predictions get an arbitrary one."""
    index = assignment.clamp(min=0)
    image = torch.arange(index.shape[-2], device=index.device).unsqueeze(-1)
    return targets.boxes[image, index], targets.labels[image, index]
