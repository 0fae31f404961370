"""SODA-D's protocol through pycocotools (Cheng et al., 2023), with the rules of the benchmark's own tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from typing_extensions import override

from mrqm.evaluation.protocols.coco_accumulation import AreaRange, accumulate
from mrqm.evaluation.protocols.matching import ScoredImage
from mrqm.evaluation.protocols.protocol import DetectionLimit, Protocol, pair_all
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import Detections

AREAS: dict[str, AreaRange] = {
    "Small": (0, 1024),
    "eS": (0, 144),
    "rS": (144, 400),
    "gS": (400, 1024),
    "N": (1024, 2000),
}
"""Area ranges in px², both ends inclusive; the first is that of the headline metrics."""
LIMITS = (100, 300, 1000)


class SodaProtocol(Protocol):
    """AP of small objects, up to 1,024 px²; larger ones count neither way.

    Annotations without a class are left out, so a detection on one is a false positive. Detecting an object with the
    flag `ignore` is optional: one detection of it counts neither way. The tool has no crowds and treats them as
    objects. Every AP counts 100 detections per image and class; recall of the bins counts 1,000. `AP/<class>` does too,
    as in the table that the benchmark's tool prints: it does not average to the headline.
    """

    @property
    def name(self) -> str:
        """`soda-d`."""
        return "soda-d"

    @property
    def version(self) -> str:
        """Version of the rules."""
        return "2"

    @property
    def comparable_with(self) -> str:
        """The benchmark's own tool."""
        return "SODA-D's own tool (sodadeval): objects up to 1,024 px², 100 detections per image and class"

    @property
    def limit(self) -> DetectionLimit:
        """The detections that AP counts."""
        return DetectionLimit(LIMITS[0], per_class=True)

    @override
    def score(
        self, records: Sequence[ImageRecord], detections: Sequence[Detections], classes: Sequence[str]
    ) -> dict[str, float]:
        """Compute `AP`, `AP50`, `AP75`, `AP_<bin>`, `AR@<limit>`, `AR_<bin>`, `AP/<class>`."""
        images = [_as_in_the_tool(image) for image in pair_all(records, detections)]
        curves = accumulate(images, classes, list(AREAS.values()), LIMITS)
        bins = list(AREAS)[1:]
        metrics = curves.headline()
        metrics |= {f"AP_{name}": curves.ap(i, 0) for i, name in enumerate(bins, start=1)}
        metrics |= {f"AR@{limit}": curves.ar(0, i) for i, limit in enumerate(LIMITS)}
        metrics |= {f"AR_{name}": curves.ar(i, -1) for i, name in enumerate(bins, start=1)}
        return metrics | curves.ap_of_classes(classes, 0, -1)


def _as_in_the_tool(image: ScoredImage) -> ScoredImage:
    truth = image.truth.take(image.truth.labels >= 0)
    return image._replace(truth=replace(truth, crowd=np.zeros(len(truth), dtype=bool)))
