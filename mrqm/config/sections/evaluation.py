"""How the detector looks at images and what is counted."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mrqm.config.sections.annotations import RenamedFrom, Role, Roles
from mrqm.config.sections.section import Count, NonNegative, Section


class EvaluationConfig(Section):
    """What validation counts."""

    max_detections: Count = 500
    """Detections kept of each window, or of an image seen in one piece. Above 100, COCO's protocol also gives AP and AR
    of as many for each image and class."""
    max_detections_per_image: Count | None = None
    """Most detections that a prediction keeps of an image, however many windows it has; null: all."""
    nms_iou: Annotated[float, Field(gt=0, le=1)] | None = None
    """Class-wise suppression of detections that overlap more, for short trainings whose queries repeat; null: none."""
    area_bins: Annotated[dict[str, tuple[NonNegative, Annotated[float, Field(gt=0)]]], Roles()] = Field(
        default={"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
    )
    """Names and area ranges in px² of the original image; each becomes a metric AP_name."""
    batch_size: Annotated[Count, Roles(Role.RUNTIME)] = 8
    """Images, or windows of images, per worker and step of evaluation and prediction."""
    asynchronous: Annotated[bool, Roles(Role.RUNTIME), RenamedFrom("evaluation.beside_training")] = False
    """Evaluate checkpoints in a process of its own, with a worker's resources, while training goes on."""
    view: Literal["sliced", "full"] = "sliced"
    """How a detector looks at an image: `sliced`: through the windows of data.tile, if set; `full`: in one piece."""
    merge: Literal["window_nms", "nms", "wbf", "soft_nms", "plain_nms"] = "window_nms"
    """What becomes of detections of several windows: suppression between windows, or of all, weighted boxes fusion or
    soft suppression, each after joining what windows cut; or plain class-wise NMS, as SODA-D's tools do."""
    merge_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Detections of one class from several windows that overlap more are one object."""

    @model_validator(mode="after")
    def _bins_are_ordered(self) -> Self:
        for name, (least, most) in self.area_bins.items():
            if least >= most:
                raise ValueError(f"evaluation.area_bins.{name}={[least, most]} must be [least, most]")
        return self
