"""VisDrone's rules one by one, with cases that a similar wrong rule would score otherwise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mrqm.evaluation import VisDroneProtocol
from mrqm.evaluation.protocols.ignored_regions import outside
from mrqm.structures.annotations import IGNORED_REGION, OTHER_OBJECT, ImageRecord, xywh_to_xyxy
from mrqm.structures.detections import Detections

from ..scenes import CLASSES, found, perfect, random_images, truth

CAR = ((10, 10, 20, 20), 0)
HIT = ((10, 10, 20, 20), 0)
REGION = ((500, 500, 100, 100), IGNORED_REGION)


def score(record: ImageRecord, detections: Detections) -> dict[str, float]:
    return VisDroneProtocol().score([record], [detections], CLASSES)


def strays(count: int, label: int = 0, score: float = 0.9) -> list[tuple[tuple[float, ...], int, float]]:
    return [((300 + i % 25 * 8, 100 + i // 25 * 8, 6, 6), label, score) for i in range(count)]


@pytest.mark.parametrize(
    ("left", "expected"),
    # the region marks px 500 to 600 and a box at x covers px x + 1 to x + 100: 50 of them at 550, 49 at 551
    [(550, 1.0), (551, 0.5)],
)
def test_a_detection_is_removed_when_half_of_it_is_in_a_region(left: int, expected: float) -> None:
    detections = found(((left, 510, 100, 50), 0, 0.9), (*HIT, 0.5))
    assert score(truth([CAR], [REGION]), detections)["AP"] == pytest.approx(expected)


@pytest.mark.parametrize(("left", "expected"), [(550, 1.0), (551, 0.5)])
def test_an_object_is_removed_when_half_of_it_is_in_a_region(left: int, expected: float) -> None:
    record = truth([CAR, ((left, 510, 100, 50), 0)], [REGION])
    assert score(record, found((*HIT, 0.5)))["AP"] == pytest.approx(expected)


def test_regions_cover_together() -> None:
    halves = [((500, 500, 40, 100), IGNORED_REGION), ((520, 500, 40, 100), IGNORED_REGION)]
    boxes = np.array([[500.0, 510, 100, 50], [500, 510, 124, 50]])  # 60 px of the width; a sum of shares would be 80
    regions = np.array([box for box, _ in halves], dtype=np.float64)
    assert outside(boxes, regions, (1000, 1000)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((10.4, 10, 10, 10), False),  # rounds to 10: 5 of 10 columns are marked
        ((10.5, 10, 10, 10), True),  # rounds to 11: 4 columns
        ((10, 10, 10.5, 10), True),  # a width of 11: 5 of 11
        ((-0.4, 10, 14, 10), False),  # starts at px 1, so 14 columns from 2 to 15: 14
        ((10, 10, 0.2, 10), False),  # sides of at least 1 px
    ],
)
def test_boxes_are_rounded_to_whole_px(box: tuple[float, ...], expected: bool) -> None:
    regions = np.array([[1.0, 1, 14, 98]])  # columns 1 to 15, both ends inclusive
    assert outside(np.array([box]), regions, (100, 100)).tolist() == [expected]


def test_coverage_is_a_share_of_the_whole_box_also_beyond_the_border() -> None:
    regions = np.array([[90.0, 0, 10, 100]])
    inside, beyond = [91.0, 10, 10, 10], [91.0, 10, 20, 10]  # 9 columns remain before the border at 100
    assert outside(np.array([inside, beyond]), regions, (100, 100)).tolist() == [False, True]


def naive_outside(box: list[int], regions: list[list[int]], height: int, width: int) -> bool:
    """Test px by px, as in the toolkit's source, with px counted from 1."""
    x, y, w, h = (max(1, value) for value in box)
    covered = 0
    for column in range(x + 1, x + w + 1):
        for row in range(y + 1, y + h + 1):
            covered += (
                column <= width
                and row <= height
                and any(
                    max(1, left) <= column <= max(1, left) + max(1, wide)
                    and max(1, top) <= row <= max(1, top) + max(1, high)
                    for left, top, wide, high in regions
                )
            )
    return covered / (w * h) < 0.5


def test_coverage_equals_counting_px() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        regions = np.concatenate([rng.integers(0, 30, (3, 2)), rng.integers(1, 25, (3, 2))], axis=1)
        boxes = np.concatenate([rng.integers(-3, 38, (10, 2)), rng.integers(1, 14, (10, 2))], axis=1)
        kept = outside(boxes.astype(float), regions.astype(float), (36, 40))
        assert kept.tolist() == [naive_outside(box, regions.tolist(), 36, 40) for box in boxes.tolist()]


def test_without_regions_everything_stays() -> None:
    assert outside(np.ones((3, 4)), np.zeros((0, 4)), (10, 10)).all()


def test_removal_comes_before_the_limit() -> None:
    hidden = [((510 + i % 50, 510 + i % 40, 6, 6), 0, 0.9) for i in range(500)]
    metrics = score(truth([CAR], [REGION]), found(*hidden, (*HIT, 0.5)))
    assert metrics["AR@1"] == metrics["AP"] == pytest.approx(1)


@pytest.mark.parametrize(("before", "expected"), [(499, 1.0), (500, 0.0)])
def test_the_limit_of_500_is_over_all_classes(before: int, expected: float) -> None:
    record = truth([CAR, ((50, 50, 9, 9), 1)])
    metrics = score(record, found(*strays(before, label=1), (*HIT, 0.5)))
    assert metrics["AP/car"] == metrics["AR@500"] * 2 == pytest.approx(expected)


@pytest.mark.parametrize(("limit", "before"), [(1, 1), (10, 10), (100, 100)])
def test_recall_counts_the_best_detections_of_all_classes(limit: int, before: int) -> None:
    metrics = score(truth([CAR]), found(*strays(before, label=2), (*HIT, 0.5)))
    assert metrics[f"AR@{limit}"] == 0
    assert score(truth([CAR]), found(*strays(before - 1, label=2), (*HIT, 0.5)))[f"AR@{limit}"] == pytest.approx(1)


def test_a_detection_on_an_object_of_another_class_is_wrong() -> None:
    other = (400, 400, 30, 30)
    metrics = score(truth([CAR], [(other, OTHER_OBJECT)]), found((other, 0, 0.9), (*HIT, 0.5)))
    assert metrics["AP"] == pytest.approx(0.5)


def test_an_unevaluated_object_excuses_detections_of_its_class_and_counts_as_missed() -> None:
    left_out = (400, 400, 30, 30)
    detections = found(((402, 402, 10, 10), 0, 0.9), (left_out, 0, 0.8), (*HIT, 0.5))
    metrics = score(truth([CAR], flagged=[(left_out, 0)]), detections)
    assert (metrics["AP"], metrics["AR@500"]) == pytest.approx((0.5, 0.5))


def test_a_crowd_excuses_detections_of_its_class_and_is_not_to_be_found() -> None:
    left_out = (400, 400, 30, 30)
    inside = ((402, 402, 10, 10), 0, 0.9)  # an IoU of 0.11, but it lies inside
    twice = found(inside, (left_out, 0, 0.8), (*HIT, 0.5))
    assert score(truth([CAR], [(left_out, 0)]), twice)["AP"] == pytest.approx(1)
    assert score(truth([CAR], [(left_out, 1)]), twice)["AP"] == pytest.approx(1 / 3)


def test_an_object_is_preferred_to_an_unevaluated_one() -> None:
    record = truth([((10, 10, 20, 10), 0)], [((10, 10, 20, 20), 0)])  # 0.5 with the object, 1 with the other
    assert score(record, found(((10, 10, 20, 20), 0, 0.9)))["AP50"] == pytest.approx(1)


def test_precision_is_integrated_over_all_points() -> None:
    far = [((100 * i, 700, 20, 20), 0) for i in range(3)]
    rows = [(*far[0], 0.9), ((900, 900, 9, 9), 0, 0.8), (*far[1], 0.7)]
    # a third at precision 1, a third at 2/3; 101 points would give (34 + 33 × 2/3) / 101 = 0.5545
    assert score(truth(far), found(*rows))["AP"] == pytest.approx(1 / 3 + 2 / 9)


def test_of_several_detections_of_one_object_only_the_best_is_right() -> None:
    metrics = score(truth([CAR, ((50, 50, 9, 9), 0)]), found((*HIT, 0.9), (*HIT, 0.8), ((50, 50, 9, 9), 0, 0.7)))
    assert metrics["AP"] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_a_class_weighs_by_its_images_in_the_official_mean() -> None:
    bus = ((100, 100, 40, 40), 1)
    records = [truth([CAR, bus], image_id=0), truth([CAR], image_id=1), truth([CAR, CAR], image_id=2)]
    detections = [found((*HIT, 0.5))] * 2 + [found((*HIT, 0.5), (*HIT, 0.4))]
    metrics = VisDroneProtocol().score(records, detections, CLASSES)
    assert metrics["AP/car"] == pytest.approx(1) and metrics["AP/bus"] == 0
    assert math.isnan(metrics["AP/person"])
    for name in ("AP", "AP50", "AP75", "AR@500"):
        assert metrics[name] == pytest.approx(3 / 4), name  # by objects it would be 4/5
        assert metrics[f"{name}_plain"] == pytest.approx(1 / 2), name


def test_an_image_counts_for_a_class_only_by_what_regions_leave() -> None:
    bus = ((520, 520, 40, 40), 1)
    records = [truth([CAR, ((100, 100, 40, 40), 1)]), truth([bus], [REGION], image_id=1)]
    metrics = VisDroneProtocol().score(records, [found((*HIT, 0.5)), found()], CLASSES)
    assert metrics["AP"] == pytest.approx(1 / 2)  # 1/3 if the second image counted for buses


def test_equal_scores_keep_their_order() -> None:
    stray = ((300, 300, 9, 9), 0, 0.5)
    assert score(truth([CAR]), found((*HIT, 0.5), stray))["AP"] == pytest.approx(1)
    assert score(truth([CAR]), found(stray, (*HIT, 0.5)))["AP"] == pytest.approx(0.5)


def test_an_iou_on_the_threshold_matches() -> None:
    metrics = score(truth([((10, 10, 20, 20), 0)]), found(((10, 10, 20, 10), 0, 0.9)))
    assert (metrics["AP50"], metrics["AP"]) == pytest.approx((1, 0.1))


@pytest.mark.parametrize("shuffled", [False, True])
def test_perfect_detections_score_one(shuffled: bool) -> None:
    records, _ = random_images(0)
    detections = [perfect(record, shuffled=shuffled) for record in records]
    metrics = VisDroneProtocol().score(records, detections, CLASSES)
    for name in ("AP", "AP50", "AP75", "AR@100", "AR@500", "AP_plain", "AP/car", "AP/bus"):
        assert metrics[name] == pytest.approx(1), name


def test_nothing_found_is_zero_and_nothing_to_find_is_nan() -> None:
    assert score(truth([CAR]), found())["AP"] == 0
    assert all(math.isnan(value) for value in score(truth([]), found((*HIT, 0.5))).values())


def test_unequal_numbers_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        VisDroneProtocol().score([truth([CAR])], [], CLASSES)


def naive_average_precision(records: list[ImageRecord], detections: list[Detections], label: int) -> float:
    """Compute one class at IoU 0.5 without any region, by loops."""
    rows: list[tuple[float, bool]] = []
    images = sorted(zip(records, detections, strict=True), key=lambda image: image[0].path)
    for record, found_here in images:
        objects = record.boxes[record.labels == label].astype(float).tolist()
        for box, confidence, kind in zip(
            xywh_to_xyxy(found_here.boxes_xywh), found_here.scores, found_here.labels, strict=True
        ):
            if kind != label:
                continue
            ious = [iou(box, other) for other in objects]
            best = max(range(len(ious)), key=lambda i: (ious[i], i), default=None)
            right = best is not None and ious[best] >= 0.5
            if right:
                objects.pop(best)
            rows.append((confidence, right))
    rows.sort(key=lambda row: -row[0])
    total = sum(int((record.labels == label).sum()) for record in records)
    right = np.cumsum([row[1] for row in rows])
    precision = right / np.arange(1, len(rows) + 1)
    return sum(max(precision[i:]) / total for i in range(len(rows)) if rows[i][1])


def iou(a: np.ndarray, b: list[float]) -> float:
    overlap = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


@pytest.mark.parametrize("seed", range(3))
def test_equals_loops_on_random_images(seed: int) -> None:
    records, detections = random_images(seed)
    records = [truth([], image_id=r.image_id) if not len(r.labels) else r for r in records]
    bare = [replace(record, truth=record.truth.take(record.truth.is_object)) for record in records]
    expected = np.array([naive_average_precision(bare, detections, label) for label in range(2)])
    metrics = VisDroneProtocol().score(bare, detections, CLASSES)
    assert expected.min() > 0.05 and expected.max() < 0.95
    assert metrics["AP50_plain"] == pytest.approx(expected.mean())
