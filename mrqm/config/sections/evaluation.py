"""Inference settings and the protocol of evaluation."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mrqm.config.sections.annotations import RenamedFrom, Role, Roles
from mrqm.config.sections.section import Count, NonNegative, Section


class EvaluationConfig(Section):
    """Inference settings and limits of evaluation."""

    max_detections: Count = 500
    """Detections kept per window, or per image that is not cut into windows. Above 100, COCO's protocol also reports AP
    and AR at this limit per image and class.
    """
    max_detections_per_image: Count | None = None
    """Greatest number of detections that a prediction keeps per image, over all its windows; null keeps all."""
    nms_iou: Annotated[float, Field(gt=0, le=1)] | None = None
    """IoU threshold of class-wise non-maximum suppression, for short trainings with repeated detections; null for none.
    """
    area_bins: Annotated[dict[str, tuple[NonNegative, Annotated[float, Field(gt=0)]]], Roles()] = Field(
        default={"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
    )
    """Names and area ranges [least, most] in px² of the original image; each adds a metric AP_name."""
    batch_size: Annotated[Count, Roles(Role.RUNTIME)] = 8
    """Number of images, or of windows, per worker and step of evaluation and prediction."""
    asynchronous: Annotated[bool, Roles(Role.RUNTIME), RenamedFrom("evaluation.beside_training")] = False
    """Evaluation of checkpoints in a process of its own, with a worker's resources, while training continues."""
    view: Literal["sliced", "full"] = "sliced"
    """Input of the model: `sliced` takes the windows of data.tile, if set; `full` takes whole images."""
    merge: Literal["window_nms", "nms", "wbf", "soft_nms", "plain_nms"] = "window_nms"
    """Merging of detections from several windows: `window_nms` suppresses only between windows, `nms` among all, `wbf`
    is weighted boxes fusion, `soft_nms` lowers scores; these join objects cut by a window's edge first. `plain_nms` is
    class-wise NMS without joining, as in SODA-D's tools.
    """
    merge_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    """IoU above which detections of one class from several windows are one object."""

    @model_validator(mode="after")
    def _bins_are_ordered(self) -> Self:
        for name, (least, most) in self.area_bins.items():
            if least >= most:
                raise ValueError(f"evaluation.area_bins.{name}={[least, most]} must be [least, most]")
        return self
