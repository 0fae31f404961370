"""VisDrone's figures for result texts that are not sorted by score: its toolkit counts the first rows as they stand."""

from __future__ import annotations

from collections.abc import Sequence

from mrqm.evaluation.protocols.ignored_regions import outside
from mrqm.evaluation.protocols.visdrone import LIMITS, VisDroneProtocol
from mrqm.structures.annotations import IGNORED_REGION, ImageRecord
from mrqm.structures.detections import ImageDetections


def score_as_written(
    records: Sequence[ImageRecord], as_written: Sequence[ImageDetections], classes: Sequence[str]
) -> dict[str, float]:
    """Score texts as the toolkit does: of an image the first 500 rows, and for `AR@<limit>` the first so many.

    Args:
        records: annotated images.
        as_written: what was found in each of them, in the order of the rows.
        classes: names in label order.

    Returns:
        Metrics named as by `VisDroneProtocol`, without its prefix.
    """
    protocol = VisDroneProtocol()
    scores = {}
    for limit in LIMITS:
        first = [_take_first(record, found, limit) for record, found in zip(records, as_written, strict=True)]
        scores[limit] = protocol.score(records, first, classes)
    recalls = {
        f"AR@{limit}{kind}": scores[limit][f"AR@{LIMITS[-1]}{kind}"] for limit in LIMITS for kind in ("", "_plain")
    }
    return scores[LIMITS[-1]] | recalls


def _take_first(record: ImageRecord, found: ImageDetections, limit: int) -> ImageDetections:
    """The first rows of an image; those in ignored regions are not counted."""
    regions = record.truth.boxes_xywh[record.truth.labels == IGNORED_REGION]
    rows = outside(found.boxes_xywh, regions, record.size).nonzero()[0][:limit]
    return ImageDetections(found.boxes_xywh[rows], found.scores[rows], found.labels[rows])
