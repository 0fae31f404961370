"""What a benchmark counts: one object for each, and one set of detections scored under several of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

from mrqm.data.records import ImageRecord
from mrqm.predictions import ImageDetections


class Protocol(ABC):
    """The rules of a benchmark.

    Attributes:
        name: prefix of its metrics, as in `coco/AP`.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def version(self) -> str:
        """Differs wherever the same detections could get another figure."""

    @abstractmethod
    def score(
        self, records: Sequence[ImageRecord], detections: Sequence[ImageDetections], classes: Sequence[str]
    ) -> dict[str, float]:
        """Score detections.

        Args:
            records: annotated images.
            detections: what was found in each of them.
            classes: names in label order.

        Returns:
            Metrics in [0, 1] by name; NaN where there is nothing to find.

        Raises:
            ValueError: records and detections differ in number.
        """


def score_under(
    protocols: Iterable[Protocol],
    records: Sequence[ImageRecord],
    detections: Sequence[ImageDetections],
    classes: Sequence[str],
) -> dict[str, float]:
    """Score one set of detections under several protocols; metrics are prefixed as in `coco/AP` and `visdrone/AP`."""
    return {
        f"{protocol.name}/{metric}": value
        for protocol in protocols
        for metric, value in protocol.score(records, detections, classes).items()
    }
