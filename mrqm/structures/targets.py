"""Ground truth of a batch as padded tensors, and assignments of predictions to objects.

Legend: B batch, N most objects in an image, M most ignored regions in an image, Q predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

BACKGROUND = -1
"""Assignment of a prediction to the background."""
IGNORE = -2
"""Assignment of a prediction without loss, because it is padding or inside an ignored region."""


@dataclass(frozen=True)
class BatchTargets:
    """Padded ground truth of a batch.

    Attributes:
        boxes: (B, N, 4) normalised cxcywh; N is at least 1, padding repeats the whole image.
        labels: (B, N) labels, 0-based.
        counts: numbers of objects in each image, in host memory.
        ignore_boxes: (B, M, 4) normalised cxcywh, padded with empty boxes; None when no image has any.
        sizes: (B, 2) unpadded height and width of the network's input in px.
    """

    boxes: Tensor
    labels: Tensor
    counts: list[int]
    ignore_boxes: Tensor | None
    sizes: Tensor


def batch_targets(targets: Sequence[dict[str, Tensor]]) -> BatchTargets:
    """Pad a batch of targets (see `mrqm`) on their device."""
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
    """Gather boxes and labels of the assigned objects.

    Args:
        targets: padded ground truth.
        assignment: (…, B, Q) index of the object of each prediction, `BACKGROUND` or `IGNORE`.

    Returns:
        Boxes (…, B, Q, 4) and labels (…, B, Q); arbitrary for predictions without an object.
    """
    index = assignment.clamp(min=0)
    image = torch.arange(index.shape[-2], device=index.device).unsqueeze(-1)
    return targets.boxes[image, index], targets.labels[image, index]
