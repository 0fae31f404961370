"""Interface of evaluation protocols, and scoring of one set of detections under several of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mrqm.data.formats.coco_schema import id_order
from mrqm.evaluation.protocols.matching import Array, ScoredImage, pair
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import Detections
from mrqm.structures.metric import with_protocol


@dataclass(frozen=True)
class DetectionLimit:
    """The number of detections that count, best first.

    Attributes:
        count: maximum number of detections in an image.
        per_class: True if `count` holds for each class of an image, False if for all classes together.
    """

    count: int
    per_class: bool

    def keep(self, labels: Array) -> Array:
        """Choose the detections of one image that count.

        Args:
            labels: (K,), by falling score.

        Returns:
            (K,) bool.
        """
        if not self.per_class:
            return np.arange(len(labels)) < self.count
        kept = np.zeros(len(labels), dtype=bool)
        for label in np.unique(labels):
            kept[np.flatnonzero(labels == label)[: self.count]] = True
        return kept

    def __str__(self) -> str:
        return f"{self.count} detections per image{' and class' if self.per_class else ''}"


class Protocol(ABC):
    """Rules of a benchmark; training and evaluation log metrics under its name."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Prefix of the metrics, as in `coco/AP`."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Version that differs wherever the same detections could get another metric."""

    @property
    @abstractmethod
    def comparable_with(self) -> str:
        """Tools with the same rules, in one sentence."""

    @property
    @abstractmethod
    def limit(self) -> DetectionLimit:
        """The detections that AP counts."""

    @abstractmethod
    def score(
        self, records: Sequence[ImageRecord], detections: Sequence[Detections], classes: Sequence[str]
    ) -> dict[str, float]:
        """Score detections.

        Args:
            records: annotated images.
            detections: detections in each image.
            classes: class names in label order.

        Returns:
            Metrics in [0, 1] by name; NaN without objects.

        Raises:
            ValueError: records and detections differ in number.
        """


def pair_all(records: Sequence[ImageRecord], detections: Sequence[Detections]) -> list[ScoredImage]:
    """Combine annotations and detections of all images, in the order of image ids as in COCO's tools.

    Args:
        records: annotated images.
        detections: detections in each image.

    Returns:
        The images for scoring.
    """
    pairs = sorted(zip(records, detections, strict=True), key=lambda image: id_order(image[0].image_id))
    return [pair(record, found) for record, found in pairs]


def score_under(
    protocols: Iterable[Protocol],
    records: Sequence[ImageRecord],
    detections: Sequence[Detections],
    classes: Sequence[str],
) -> dict[str, float]:
    """Score one set of detections under several protocols.

    Args:
        protocols: evaluation protocols.
        records: annotated images.
        detections: detections in each image.
        classes: class names in label order.

    Returns:
        Metrics with the protocol's name as prefix, as in `coco/AP` and `visdrone/AP`.
    """
    scores: dict[str, float] = {}
    for protocol in protocols:
        scores |= with_protocol(protocol.name, protocol.score(records, detections, classes))
    return scores
