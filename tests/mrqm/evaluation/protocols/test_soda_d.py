"""SODA-D's rules one by one, with cases that a similar wrong rule would score otherwise."""

from __future__ import annotations

import math

import pytest

from mrqm.evaluation import SodaProtocol
from mrqm.structures.annotations import IGNORED_REGION, ImageRecord
from mrqm.structures.detections import Detections

from ..scenes import CLASSES, found, perfect, random_images, truth

TINY = ((10, 10, 10, 10), 0)


def score(record: ImageRecord, detections: Detections) -> dict[str, float]:
    return SodaProtocol().score([record], [detections], CLASSES)


@pytest.mark.parametrize(
    ("box", "bins"),
    [
        ((9, 9, 12, 12), {"eS", "rS"}),  # 144 px²: both ends are inclusive
        ((9, 9, 20, 20), {"rS", "gS"}),  # 400
        ((9, 9, 32, 32), {"gS", "N"}),  # 1024
        ((9, 9, 40, 50), {"N"}),  # 2000
        ((9, 9, 29, 5), {"rS"}),  # 145
        ((9, 9, 11, 13), {"eS"}),  # 143
        ((9, 9, 21, 19), {"rS"}),  # 399
        ((9, 9, 401, 1), {"gS"}),
        ((9, 9, 41, 25), {"N"}),  # 1025
        ((9, 9, 29, 69), set()),  # 2001
    ],
)
def test_an_area_on_a_border_counts_on_both_sides(box: tuple[int, ...], bins: set[str]) -> None:
    metrics = score(truth([(box, 0)]), found((box, 0, 0.9)))
    assert {name for name in ("eS", "rS", "gS", "N") if metrics[f"AP_{name}"] == pytest.approx(1)} == bins
    assert {name for name in ("eS", "rS", "gS", "N") if math.isnan(metrics[f"AP_{name}"])} == {
        "eS", "rS", "gS", "N",
    } - bins  # fmt: skip


@pytest.mark.parametrize(("box", "headline"), [((9, 9, 32, 32), 0.0), ((9, 9, 41, 25), math.nan)])
def test_the_headline_counts_objects_up_to_1024(box: tuple[int, ...], headline: float) -> None:
    metrics = score(truth([(box, 0)]), found())
    for name in ("AP", "AP50", "AP75", "AR@1000", "AP/car"):
        assert metrics[name] == pytest.approx(headline, nan_ok=True), name


@pytest.mark.parametrize(("stray", "expected"), [((300, 300, 32, 32), 0.5), ((300, 300, 41, 25), 1.0)])
def test_a_stray_detection_costs_in_its_own_range_only(stray: tuple[int, ...], expected: float) -> None:
    assert score(truth([TINY]), found((stray, 0, 0.9), (*TINY, 0.5)))["AP"] == pytest.approx(expected)


def test_regions_excuse_nothing() -> None:
    region = (300, 300, 30, 30)
    metrics = score(truth([TINY], [(region, IGNORED_REGION)]), found((region, 0, 0.9), (*TINY, 0.5)))
    assert metrics["AP"] == pytest.approx(0.5)


def test_one_detection_of_an_ignored_object_costs_nothing_and_it_need_not_be_found() -> None:
    flagged = ((300, 300, 30, 30), 0)
    record = truth([TINY], flagged=[flagged])
    assert score(record, found((*TINY, 0.5)))["AP"] == pytest.approx(1)
    assert score(record, found((*flagged, 0.9), (*TINY, 0.5)))["AP"] == pytest.approx(1)
    assert score(record, found((*flagged, 0.9), (*flagged, 0.8), (*TINY, 0.5)))["AP"] == pytest.approx(0.5)
    assert score(record, found(((310, 310, 9, 9), 0, 0.9), (*TINY, 0.5)))["AP"] == pytest.approx(0.5)  # lies inside


def test_a_crowd_is_an_object_to_find() -> None:
    crowd = ((300, 300, 30, 30), 0)
    assert score(truth([TINY], [crowd]), found((*TINY, 0.5)))["AP"] == pytest.approx(51 / 101)
    assert score(truth([TINY], [crowd]), found((*crowd, 0.9), (*TINY, 0.5)))["AP"] == pytest.approx(1)


def strays(count: int, label: int = 0) -> list[tuple[tuple[int, ...], int, float]]:
    return [((300 + i % 50 * 11, 100 + i // 50 * 11, 10, 10), label, 0.9) for i in range(count)]


@pytest.mark.parametrize(("before", "expected"), [(99, 1 / 100), (100, 0)])
def test_every_ap_counts_100_detections_of_a_class(before: int, expected: float) -> None:
    metrics = score(truth([TINY]), found(*strays(before), *strays(150, label=1), (*TINY, 0.5)))
    assert [metrics[name] for name in ("AP", "AP50", "AP_eS")] == pytest.approx([expected] * 3)
    assert metrics["AP/car"] == pytest.approx(1 / (before + 1))  # the tool's table counts 1,000


@pytest.mark.parametrize(("limit", "before"), [(100, 100), (300, 300), (1000, 1000)])
def test_recall_counts_up_to_its_limit(limit: int, before: int) -> None:
    assert score(truth([TINY]), found(*strays(before), (*TINY, 0.5)))[f"AR@{limit}"] == 0
    assert score(truth([TINY]), found(*strays(before - 1), (*TINY, 0.5)))[f"AR@{limit}"] == pytest.approx(1)


@pytest.mark.parametrize(("before", "expected"), [(999, 1), (1000, 0)])
def test_recall_of_bins_counts_1000(before: int, expected: float) -> None:
    metrics = score(truth([TINY]), found(*strays(before), (*TINY, 0.5)))
    assert metrics["AR_eS"] == pytest.approx(expected)


def test_precision_is_read_at_101_points() -> None:
    objects = [((100 * i, 700, 20, 20), 0) for i in range(3)]
    rows = [(*objects[0], 0.9), ((900, 900, 9, 9), 0, 0.8), (*objects[1], 0.7)]
    assert score(truth(objects), found(*rows))["AP"] == pytest.approx((34 + 33 * 2 / 3) / 101)


def test_equal_scores_keep_their_order() -> None:
    stray = ((300, 300, 9, 9), 0, 0.5)
    assert score(truth([TINY]), found((*TINY, 0.5), stray))["AP"] == pytest.approx(1)
    assert score(truth([TINY]), found(stray, (*TINY, 0.5)))["AP"] == pytest.approx(0.5)


def test_class_means_are_plain() -> None:
    bus = ((100, 100, 20, 20), 1)
    records = [truth([TINY, bus]), truth([TINY], image_id=1)]
    metrics = SodaProtocol().score(records, [found((*TINY, 0.5))] * 2, CLASSES)
    assert metrics["AP"] == pytest.approx(1 / 2)


@pytest.mark.parametrize("shuffled", [False, True])
def test_perfect_detections_score_one(shuffled: bool) -> None:
    records, _ = random_images(0)
    metrics = SodaProtocol().score(records, [perfect(record, shuffled=shuffled) for record in records], CLASSES)
    assert metrics.pop("AP/person") is not None
    assert metrics == pytest.approx(dict.fromkeys(metrics, 1.0))
