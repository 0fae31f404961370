"""Trained model with preprocessing and post-processing as one module, for `mrqm export`.

Legend: B batch, N detections.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrqm.inference.postprocess import rank
from mrqm.models.mrqm import MRQM


class ExportModule(nn.Module):
    """Module from images to detections, with tensors of fixed shapes.

    Args:
        model: trained model.
        max_detections: number of detections N; less where the model has fewer pairs of query and class.
        nms_iou: IoU threshold of suppression; see `postprocess`.
    """

    def __init__(self, model: MRQM, max_detections: int, nms_iou: float | None) -> None:
        super().__init__()
        self.model, self.max_detections, self.nms_iou = model.eval(), max_detections, nms_iou

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect objects in a batch of images.

        Args:
            images: (B, 3, H, W) uint8 RGB, each image in the upper left corner.
            sizes: (B, 2) int64, height and width of each image in px; the rest is padding, which has no effect.

        Returns:
            `boxes` (B, N, 4) xyxy px of the images, `scores` (B, N) and `labels` (B, N), best first. Detections that
            non-maximum suppression removes come last and score 0.
        """
        rows = torch.arange(images.shape[2], device=images.device) >= sizes[:, :1]  # (B, H)
        columns = torch.arange(images.shape[3], device=images.device) >= sizes[:, 1:]  # (B, W)
        outputs = self.model(images, rows.unsqueeze(2) | columns.unsqueeze(1))
        found = rank(outputs["pred_logits"], outputs["pred_boxes"], sizes, self.max_detections, self.nms_iou)
        if self.nms_iou is None:
            return found.boxes, found.scores, found.labels
        most = found.scores.shape[1]
        place = torch.arange(most, device=images.device) + torch.where(found.kept, 0, most)
        order = place.topk(most, 1, largest=False).indices
        scores = torch.where(found.kept, found.scores, 0.0)
        boxes = found.boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))
        return boxes, scores.gather(1, order), found.labels.gather(1, order)
