"""COCO's protocol through pycocotools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from typing_extensions import override

from mrqm.evaluation.protocols.coco_accumulation import AreaRange, accumulate
from mrqm.evaluation.protocols.matching import ScoredImage
from mrqm.evaluation.protocols.protocol import DetectionLimit, Protocol, pair_all
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import Detections

ALL_AREAS: AreaRange = (0.0, 1e10)  # px², the range of the headline figures
COCO_AREAS: Mapping[str, AreaRange] = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
COCO_LIMITS = (1, 10, 100)


@dataclass(frozen=True)
class CocoProtocol(Protocol):
    """AP over 101 recall points, IoU 0.50:0.05:0.95; crowds and ignored objects count neither way.

    Areas of objects are the annotated ones, which COCO computes from masks.

    Args:
        area_bins: name → (least, most) area in px², both inclusive.
        max_detections: ascending limits of detections per image and class; every AP uses the last.
        dense_limit: further limit for which AP and AR are reported too; None for none.
        without_class: treatment of annotations without a class, such as ignored regions: `excuse` makes them crowds of
            every class, `drop` leaves them out.
    """

    area_bins: Mapping[str, AreaRange] = field(default_factory=lambda: COCO_AREAS)
    max_detections: tuple[int, ...] = COCO_LIMITS
    dense_limit: int | None = None
    without_class: Literal["excuse", "drop"] = "excuse"

    @property
    def name(self) -> str:
        """`coco`, or `coco-drop-ignored` where annotations without a class are dropped."""
        return "coco" if self.without_class == "excuse" else "coco-drop-ignored"

    @property
    def version(self) -> str:
        """Version of the rules with the settings that change metrics."""
        bins = " ".join(f"{name}={least:g}-{most:g}" for name, (least, most) in self.area_bins.items())
        return f"2 maxDets={','.join(map(str, self._limits))} {bins}"

    @property
    def comparable_with(self) -> str:
        """Tool with the same rules, and the treatment of ignored regions."""
        limits = ", ".join(map(str, self.max_detections))
        regions = (
            "ignored regions and others as crowds of every class"
            if self.without_class == "excuse"
            else "ignored regions and others left out, as COCO json converted from VisDrone for mmdetection has them"
        )
        return f"pycocotools with maxDets {limits} and {regions}"

    @property
    def limit(self) -> DetectionLimit:
        """The detections that AP counts."""
        return DetectionLimit(self.max_detections[-1], per_class=True)

    @property
    def _limits(self) -> tuple[int, ...]:
        return self.max_detections if self.dense_limit is None else (*self.max_detections, self.dense_limit)

    @override
    def score(
        self, records: Sequence[ImageRecord], detections: Sequence[Detections], classes: Sequence[str]
    ) -> dict[str, float]:
        """Compute `AP`, `AP50`, `AP75`, `AP_<bin>`, `AP@<dense limit>`, `AR@<limit>`, `AR_<bin>`, `AP/<class>`."""
        images = pair_all(records, detections)
        if self.without_class == "drop":
            images = [_drop_without_class(image) for image in images]
        limits, headline = self._limits, len(self.max_detections) - 1
        curves = accumulate(images, classes, [ALL_AREAS, *self.area_bins.values()], limits)
        metrics = curves.headline(limit=headline)
        metrics |= {f"AP_{name}": curves.ap(i, headline) for i, name in enumerate(self.area_bins, start=1)}
        metrics |= {f"AP@{limit}": curves.ap(0, -1) for limit in limits[headline + 1 :]}
        metrics |= {f"AR@{limit}": curves.ar(0, i) for i, limit in enumerate(limits)}
        metrics |= {f"AR_{name}": curves.ar(i, headline) for i, name in enumerate(self.area_bins, start=1)}
        return metrics | curves.ap_of_classes(classes, 0, headline)


def _drop_without_class(image: ScoredImage) -> ScoredImage:
    return image._replace(truth=image.truth.take(image.truth.labels >= 0))
