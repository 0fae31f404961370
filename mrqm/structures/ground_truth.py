"""Ground truth of an image as annotated, for evaluation; training gets repaired boxes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

IGNORED_REGION = -1
"""Label of an ignored box whose content is unknown; it concerns every class."""
OTHER_OBJECT = -2
"""Label of an ignored box around an object that belongs to none of the classes."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class GroundTruth:
    """Annotations of one image in the order of their file.

    Attributes:
        boxes_xywh: (N, 4) float64 boxes: left, top, width, height in native px; neither clipped nor rounded, and some
            may have no area.
        labels: (N,) int64 labels, 0-based, `IGNORED_REGION` or `OTHER_OBJECT`.
        areas: (N,) float64 areas in px², of boxes or, where annotated, of masks.
        crowd: (N,) bool, True for groups of objects: `iscrowd` of COCO, and every region without a class.
        ignored: (N,) bool, True where a detection is optional: `ignore` of COCO and SODA-D, score 0 of VisDrone, and
            every region without a class.
    """

    boxes_xywh: NDArray[np.float64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowd: Mask
    ignored: Mask

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_object(self) -> Mask:
        """(N,) bool, True for single objects of a class that a detector has to detect."""
        return (self.labels >= 0) & ~self.crowd & ~self.ignored

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> GroundTruth:
        """Select annotations by a mask or by indices."""
        return GroundTruth(*(getattr(self, field.name)[chosen] for field in fields(self)))


def make_ground_truth(
    boxes_xywh: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    areas: NDArray[np.float64] | None = None,
    crowd: Mask | None = None,
    ignored: Mask | None = None,
) -> GroundTruth:
    """Make ground truth from annotations that may lack some fields.

    Args:
        boxes_xywh: (N, 4) boxes in native px.
        labels: (N,) labels; those below 0 become ignored crowds.
        areas: (N,) areas in px²; None takes those of the boxes.
        crowd: (N,) bool; None marks only regions without a class.
        ignored: (N,) bool; None marks only regions without a class.

    Returns:
        The ground truth of one image.
    """
    without_class = labels < 0
    return GroundTruth(
        boxes_xywh,
        labels,
        boxes_xywh[:, 2] * boxes_xywh[:, 3] if areas is None else areas,
        without_class if crowd is None else crowd | without_class,
        without_class if ignored is None else ignored | without_class,
    )
