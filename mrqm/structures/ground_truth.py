"""What the annotators wrote about an image, which evaluation scores as it stands: training gets repaired boxes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

IGNORED_REGION = -1
"""Label of an ignored box where nobody says what is there; it concerns every class."""
OTHER_OBJECT = -2
"""Label of an ignored box around an object of none of the classes."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class GroundTruth:
    """The annotations of one image in the order of their file.

    Attributes:
        boxes_xywh: (N, 4) float64 left, top, width, height in native px: neither clipped nor rounded, and some may have
            no area.
        labels: (N,) int64, 0-based, or `IGNORED_REGION` or `OTHER_OBJECT`.
        areas: (N,) float64 in px², of boxes or, where the annotations say so, of masks.
        crowd: (N,) several objects that nobody told apart: `iscrowd` of COCO, and every region without a class.
        ignored: (N,) need not be found: `ignore` of COCO and SODA-D, score 0 of VisDrone, every region without a class.
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
        """(N,) single objects of a class that are to be found."""
        return (self.labels >= 0) & ~self.crowd & ~self.ignored

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> GroundTruth:
        """The annotations that a mask or indices choose."""
        return GroundTruth(*(getattr(self, field.name)[chosen] for field in fields(self)))


def make_ground_truth(
    boxes_xywh: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    areas: NDArray[np.float64] | None = None,
    crowd: Mask | None = None,
    ignored: Mask | None = None,
) -> GroundTruth:
    """Fill in what annotations do not say.

    Args:
        boxes_xywh: (N, 4) in native px.
        labels: (N,); those below 0 make crowds that need not be found.
        areas: (N,) in px²; None takes those of the boxes.
        crowd: (N,); None: only regions without a class.
        ignored: (N,); None: only regions without a class.

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
