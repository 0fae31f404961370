from __future__ import annotations

from pathlib import Path

import numpy as np

from mrqm.data.analysis.statistics import describe_split
from mrqm.structures.annotations import IGNORED_REGION, OTHER_OBJECT, AnnotationSet, ImageRecord
from mrqm.structures.ground_truth import make_ground_truth


def record(sides: list[float], ignored: list[int]) -> ImageRecord:
    boxes = np.array([[0, 0, side, side] for side in [*sides, *[9] * len(ignored)]], dtype=np.float64).reshape(-1, 4)
    labels = np.array([0] * len(sides) + ignored, dtype=np.int64)
    truth = make_ground_truth(boxes, labels, ignored=np.arange(len(labels)) >= len(sides))
    return ImageRecord(Path("a.png"), 0, (600, 600), truth)


def test_objects_are_counted_by_side_and_image() -> None:
    records = (
        record([11, 12, 19.5, 20, 31, 32, 600], [IGNORED_REGION, OTHER_OBJECT, 1]),
        record([5], []),
        record([], []),
    )
    report = describe_split(AnnotationSet(("car", "van"), records), ["b.png: broken"], "abc", 9)
    assert report.objects == {"car": 8, "van": 0}
    assert report.ignored == {"ignored region": 1, "others": 1, "car": 0, "van": 1}
    assert report.share_under == {12: 2 / 8, 20: 4 / 8, 32: 6 / 8}
    assert {edge: count for edge, count in report.sides.items() if count} == {
        4: 1,
        8: 1,
        12: 1,
        16: 1,
        20: 2,
        32: 1,
        512: 1,
    }
    assert report.objects_per_image["median"] == 1
    assert report.objects_per_image["most"] == 7
    assert (report.images, report.written, report.unreadable) == (3, 9, ["b.png: broken"])


def test_a_split_without_objects_is_described() -> None:
    report = describe_split(AnnotationSet(("car",), (record([], []),)), [], "abc", 0)
    assert report.share_under == {12: 0, 20: 0, 32: 0}
