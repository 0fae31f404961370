"""Remarks on ground truth that affect the interpretation of scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrqm.structures.annotations import ROUNDING, ImageRecord, clip_to_image, xywh_to_xyxy

AREA_TOLERANCE = 0.01
"""Difference of an annotated area from its box's area, as a fraction of the latter, above which it is remarked."""


def describe_ground_truth(records: Sequence[ImageRecord]) -> list[str]:
    """Describe, in sentences, annotations that other tools or training treat differently."""
    odd, flagged, differing, objects = 0, 0, 0, 0
    for record in records:
        truth = record.truth.take(record.truth.labels >= 0)
        boxes = xywh_to_xyxy(truth.boxes_xywh)
        clipped, usable = clip_to_image(boxes, record.size)
        areas = truth.boxes_xywh[:, 2] * truth.boxes_xywh[:, 3]
        objects += len(truth)
        odd += int((~usable | (abs(clipped - boxes) >= ROUNDING).any(axis=1)).sum())
        flagged += int((truth.ignored & ~truth.crowd).sum())
        differing += int((abs(truth.areas - areas) > AREA_TOLERANCE * np.maximum(areas, 1)).sum())
    return [
        text
        for count, text in (
            (
                odd,
                "leave their image or have no area; scored as annotated, though training gets them repaired",
            ),
            (flagged, "are flagged as ignored, so that detecting them is optional; pycocotools does not use that flag"),
            (differing, "have an annotated area unlike their box's; metrics such as AP_small use the annotated one"),
        )
        if count
        for text in [f"{count} of {objects} annotated objects {text}"]
    ]
