"""VisDrone's metrics for result texts that are not sorted by score: the toolkit counts the first rows in file order."""

from __future__ import annotations

from collections.abc import Sequence

from mrqm.evaluation.protocols.ignored_regions import outside
from mrqm.evaluation.protocols.visdrone import LIMITS, VisDroneProtocol
from mrqm.structures.annotations import IGNORED_REGION, ImageRecord
from mrqm.structures.detections import Detections


def score_as_written(
    records: Sequence[ImageRecord], as_written: Sequence[Detections], classes: Sequence[str]
) -> dict[str, float]:
    """Score result texts as the toolkit does, by the first rows of an image in file order.

    Metrics use the first 500 rows, `AR@<limit>` the first `limit` rows.

    Args:
        records: annotated images.
        as_written: detections in each image, in the order of the rows.
        classes: class names in label order.

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


def _take_first(record: ImageRecord, found: Detections, limit: int) -> Detections:
    """Take the first rows of an image, not counting those in ignored regions."""
    regions = record.truth.boxes_xywh[record.truth.labels == IGNORED_REGION]
    rows = outside(found.boxes_xywh, regions, record.size).nonzero()[0][:limit]
    return found.take(rows)
