"""Statistics of a data set for the report of `mrqm prepare`: counts and sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel

from mrqm.structures.annotations import IGNORED_REGION, OTHER_OBJECT, AnnotationSet, Repair

SMALL_SIDES = (12, 20, 32)
"""Sides (square root of the area) in px below which objects are counted: SODA-D's eS and rS, and COCO's small."""
SIDE_EDGES = (0, 4, 8, 12, 16, 20, 32, 48, 64, 96, 128, 256, 512)
"""Bounds of the size histogram in px; the last bin is open."""


class SplitReport(BaseModel):
    """Statistics of a split.

    Attributes:
        images: number of images that decode.
        written: number of images in the prepared form, tiles included; 0 if nothing was written.
        objects: number of evaluated objects by class.
        ignored: number of ignored boxes by class, `ignored region` and `others`.
        sides: number of objects by the lower bound of their side (square root of the area) in px.
        share_under: fraction of the objects under each of `SMALL_SIDES`; 0 without objects.
        objects_per_image: median, 99th percentile and most.
        repairs: all dropped or repaired annotations, with their places.
        unreadable: reasons of the images that do not decode; these are left out everywhere.
        digest: `mrqm.data.formats.digest` of the images that decode.
    """

    images: int
    written: int = 0
    objects: dict[str, int]
    ignored: dict[str, int]
    sides: dict[int, int]
    share_under: dict[int, float]
    objects_per_image: dict[str, float]
    repairs: list[Repair]
    unreadable: list[str]
    digest: str


def describe_split(annotations: AnnotationSet, unreadable: Sequence[str], digest: str, written: int) -> SplitReport:
    """Compute the statistics of a split whose records all decode.

    Args:
        annotations: annotations of the split.
        unreadable: reasons of the images that do not decode.
        digest: digest of the split.
        written: number of images written.

    Returns:
        The report.
    """
    records = annotations.records
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(record.boxes for record in records)]).astype(np.float64)
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    counts = np.array([len(record.boxes) for record in records] or [0])
    histogram, _ = np.histogram(sides, bins=[*SIDE_EDGES, np.inf])
    names = {IGNORED_REGION: "ignored region", OTHER_OBJECT: "others", **dict(enumerate(annotations.classes))}
    return SplitReport(
        images=len(records),
        written=written,
        objects=_count([label for record in records for label in record.labels.tolist()], names, min_label=0),
        ignored=_count([label for record in records for label in record.ignore_labels.tolist()], names, OTHER_OBJECT),
        sides=dict(zip(SIDE_EDGES, histogram.tolist(), strict=True)),
        share_under={side: float((sides < side).mean()) if len(sides) else 0.0 for side in SMALL_SIDES},
        objects_per_image={
            "median": float(np.median(counts)),
            "99th percentile": float(np.percentile(counts, 99)),
            "most": float(counts.max()),
        },
        repairs=annotations.repairs.log,
        unreadable=list(unreadable),
        digest=digest,
    )


def _count(labels: Sequence[int], names: Mapping[int, str], min_label: int) -> dict[str, int]:
    values, counts = np.unique(np.array(labels, dtype=np.int64), return_counts=True)
    found = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return {name: found.get(label, 0) for label, name in names.items() if label >= min_label}
