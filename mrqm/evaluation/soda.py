"""SODA-D's protocol through pycocotools (Cheng et al., 2023; rules as in the benchmark's own tool)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mrqm.data.records import ImageRecord
from mrqm.evaluation.cocoeval import AreaRange, accumulate
from mrqm.evaluation.matching import ScoredImage, number_by_id, pair
from mrqm.evaluation.protocols import Protocol
from mrqm.predictions import ImageDetections

AREAS: dict[str, AreaRange] = {
    "Small": (0, 1024),
    "eS": (0, 144),
    "rS": (144, 400),
    "gS": (400, 1024),
    "N": (1024, 2000),
}
"""Area ranges in px², both ends inclusive; the first is that of the headline."""
LIMITS = (100, 300, 1000)


class SodaProtocol(Protocol):
    """The headline counts small objects only, up to 1,024 px²; larger ones are neither right nor wrong.

    Ignored boxes of any kind are removed before scoring, so a detection on one is a false positive. Every AP counts
    100 detections per image and class; recall of the bins counts 1,000. So does `AP/<class>`, as in the table that
    the benchmark's tool prints: it does not average to the headline.
    """

    name: ClassVar[str] = "soda-d"

    @property
    def version(self) -> str:
        """The rules' version."""
        return "1"

    def score(
        self, records: Sequence[ImageRecord], detections: Sequence[ImageDetections], classes: Sequence[str]
    ) -> dict[str, float]:
        """`AP`, `AP50`, `AP75`, `AP_<bin>`, `AR@<limit>`, `AR_<bin>`, `AP/<class>`."""
        images = number_by_id(records, (_without_ignored(pair(r, d)) for r, d in zip(records, detections, strict=True)))
        curves = accumulate(images, classes, list(AREAS.values()), LIMITS)
        bins = list(AREAS)[1:]
        metrics = curves.headline()
        metrics |= {f"AP_{name}": curves.ap(i, 0) for i, name in enumerate(bins, start=1)}
        metrics |= {f"AR@{limit}": curves.ar(0, i) for i, limit in enumerate(LIMITS)}
        metrics |= {f"AR_{name}": curves.ar(i, -1) for i, name in enumerate(bins, start=1)}
        return metrics | curves.ap_of_classes(classes, 0, -1)


def _without_ignored(image: ScoredImage) -> ScoredImage:
    return image._replace(ignore_boxes=np.zeros((0, 4)), ignore_labels=np.zeros(0, np.int64))
