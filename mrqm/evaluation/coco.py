"""COCO's protocol through pycocotools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from mrqm.data.records import ImageRecord
from mrqm.evaluation.cocoeval import AreaRange, accumulate
from mrqm.evaluation.matching import number_by_id, pair
from mrqm.evaluation.protocols import Protocol
from mrqm.predictions import ImageDetections

ALL_AREAS: AreaRange = (0.0, 1e10)  # px², the range of the headline figures
COCO_AREAS: Mapping[str, AreaRange] = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}


@dataclass(frozen=True)
class CocoProtocol(Protocol):
    """AP over 101 recall points, IoU 0.50:0.05:0.95; crowds are neither right nor wrong.

    Ignored regions and objects of other classes are crowds of every class. Areas are those of boxes: COCO's own
    annotations hold the areas of masks, with which its AP_small and the like differ.

    Args:
        area_bins: name → (least, most) area in px², both inclusive.
        max_detections: rising limits per image and class; every AP uses the last.
    """

    name: ClassVar[str] = "coco"
    area_bins: Mapping[str, AreaRange] = field(default_factory=lambda: COCO_AREAS)
    max_detections: tuple[int, ...] = (1, 10, 100)

    @property
    def version(self) -> str:
        """The rules' version and the settings that change figures."""
        bins = " ".join(f"{name}={least:g}-{most:g}" for name, (least, most) in self.area_bins.items())
        return f"1 maxDets={','.join(map(str, self.max_detections))} {bins}"

    def score(
        self, records: Sequence[ImageRecord], detections: Sequence[ImageDetections], classes: Sequence[str]
    ) -> dict[str, float]:
        """`AP`, `AP50`, `AP75`, `AP_<bin>`, `AR@<limit>`, `AR_<bin>`, `AP/<class>`."""
        images = number_by_id(records, (pair(r, d) for r, d in zip(records, detections, strict=True)))
        curves = accumulate(images, classes, [ALL_AREAS, *self.area_bins.values()], self.max_detections)
        metrics = curves.headline(limit=-1)
        metrics |= {f"AP_{name}": curves.ap(i, -1) for i, name in enumerate(self.area_bins, start=1)}
        metrics |= {f"AR@{limit}": curves.ar(0, i) for i, limit in enumerate(self.max_detections)}
        metrics |= {f"AR_{name}": curves.ar(i, -1) for i, name in enumerate(self.area_bins, start=1)}
        return metrics | curves.ap_of_classes(classes, 0, -1)
