"""Error analysis by hand-made cases, with AP50 against COCO's."""

from __future__ import annotations

import numpy as np
import pytest

from mrqm.evaluation import CocoProtocol
from mrqm.evaluation.analysis.curves import precision_over_recall, recall_by_size
from mrqm.evaluation.analysis.errors import ERRORS, SIZE_BINS, ErrorAnalysis, decompose
from mrqm.evaluation.analysis.outcomes import find_outcomes
from mrqm.evaluation.protocols.protocol import DetectionLimit
from mrqm.structures.annotations import IGNORED_REGION, ImageRecord
from mrqm.structures.detections import Detections

from ..scenes import CLASSES, found, perfect, random_images, truth

PLACE, BESIDE, NOWHERE = (100, 100, 20, 20), (110, 100, 20, 20), (700, 700, 20, 20)  # beside: an IoU of 1/3
CAR, BUS = 0, 1


def analyse(record: ImageRecord, detections: Detections) -> ErrorAnalysis:
    return decompose(find_outcomes([record], [detections], len(CLASSES)))


def counts(record: ImageRecord, detections: Detections, label: int = CAR) -> dict[str, int]:
    """Count the errors in one class."""
    numbers = analyse(record, detections).counts[0, label]
    return {name: int(number) for name, number in zip(ERRORS, numbers, strict=True) if number}


def lost(record: ImageRecord, detections: Detections) -> dict[str, float]:
    """Return the cost of each error for the class of cars."""
    return dict(zip(ERRORS, analyse(record, detections).lost[0, CAR].tolist(), strict=True))


@pytest.mark.parametrize(
    ("object_label", "box", "error"),
    [
        (CAR, BESIDE, {"Loc": 1, "FP": 1, "FN": 1}),
        (BUS, PLACE, {"Cls": 1, "FP": 1}),
        (BUS, BESIDE, {"Both": 1, "FP": 1}),
        (CAR, NOWHERE, {"Bkg": 1, "Miss": 1, "FP": 1, "FN": 1}),
        (CAR, PLACE, {}),
    ],
)
def test_a_wrong_detection_has_one_error(object_label: int, box: tuple[int, ...], error: dict[str, int]) -> None:
    assert counts(truth([(PLACE, object_label)]), found((box, CAR, 0.9))) == error


@pytest.mark.parametrize(
    ("left", "error"),
    # boxes of 100 px side, moved by x: an IoU of (100 - x) / (100 + x)
    [(33, None), (34, "Loc"), (81, "Loc"), (82, "Bkg")],
)
def test_a_half_is_enough_and_a_tenth_is_something(left: int, error: str | None) -> None:
    errors = counts(truth([((0, 0, 100, 100), CAR)]), found(((left, 0, 100, 100), CAR, 0.9)))
    assert (error in errors) if error else errors == {}


def test_a_second_detection_is_a_duplicate() -> None:
    assert counts(truth([(PLACE, CAR)]), found((PLACE, CAR, 0.9), (PLACE, CAR, 0.8))) == {"Dupe": 1, "FP": 1}


def test_place_is_asked_before_class() -> None:
    record = truth([(BESIDE, CAR), (PLACE, BUS)])
    assert counts(record, found((PLACE, CAR, 0.9))) == {"Loc": 1, "FP": 1, "FN": 1}


def test_class_is_asked_before_duplicates() -> None:
    record = truth([(PLACE, CAR), (PLACE, BUS)])
    assert counts(record, found((PLACE, CAR, 0.9), (PLACE, CAR, 0.8))) == {"Cls": 1, "FP": 1}


@pytest.mark.parametrize(("label", "expected"), [(IGNORED_REGION, {}), (CAR, {}), (BUS, {"Bkg": 1, "FP": 1})])
def test_a_detection_inside_an_ignored_box_of_its_class_does_not_count(label: int, expected: dict[str, int]) -> None:
    record = truth([(PLACE, CAR)], [((690, 690, 50, 50), label)])
    assert counts(record, found((PLACE, CAR, 0.9), (NOWHERE, CAR, 0.8))) == expected


def test_costs_of_background_and_misses() -> None:
    record = truth([(PLACE, CAR), ((400, 400, 20, 20), CAR)])
    costs = lost(record, found((NOWHERE, CAR, 0.9), (PLACE, CAR, 0.8)))
    before = 51 * 0.5 / 101  # a precision of a half up to a recall of a half
    assert costs == pytest.approx(
        {"Cls": 0, "Loc": 0, "Both": 0, "Dupe": 0, "Bkg": 51 / 101 - before, "Miss": 0.5 - before}
        | {"FP": 51 / 101 - before, "FN": 0.5 - before}
    )


def test_mending_a_place_or_class_makes_one_detection_of_an_object_right() -> None:
    record = truth([(PLACE, CAR), ((400, 400, 20, 20), CAR)])
    badly_placed = found((BESIDE, CAR, 0.9), (BESIDE, CAR, 0.8))
    assert lost(record, badly_placed)["Loc"] == pytest.approx(51 / 101)  # the second is not the other car
    called_bus = found((PLACE, BUS, 0.9))
    assert lost(truth([(PLACE, CAR)]), called_bus)["Cls"] == pytest.approx(1)  # it becomes a car


def test_mending_a_detection_of_an_object_that_was_found_removes_it() -> None:
    costs = lost(truth([(PLACE, CAR)]), found((BESIDE, CAR, 0.9), (PLACE, CAR, 0.8)))
    assert (costs["Loc"], costs["Miss"]) == pytest.approx((0.5, 0))


def test_a_duplicate_costs_when_objects_are_found_after_it() -> None:
    record = truth([(PLACE, CAR), ((400, 400, 20, 20), CAR)])
    rows = found((PLACE, CAR, 0.9), (PLACE, CAR, 0.8), ((400, 400, 20, 20), CAR, 0.7))
    assert lost(record, rows)["Dupe"] == pytest.approx(50 / 101 * (1 - 2 / 3))


def test_size_bins_see_their_own_objects_only() -> None:
    tiny, large = (100, 100, 8, 8), (300, 300, 40, 40)
    analysis = analyse(truth([(tiny, CAR), (large, CAR)]), found((large, CAR, 0.9), ((700, 700, 15, 15), CAR, 0.95)))
    bins = dict(zip(("all", *SIZE_BINS), range(6), strict=True))
    miss, background = ERRORS.index("Miss"), ERRORS.index("Bkg")
    assert analysis.ap50[bins["< 12"], CAR] == 0 and analysis.ap50[bins["32-96"], CAR] == pytest.approx(1)
    assert analysis.lost[0, CAR, miss] == pytest.approx(0.5 - 51 / 101 / 2)
    assert analysis.lost[bins["< 12"], CAR, miss] == analysis.lost[bins["32-96"], CAR, miss] == 0
    assert analysis.counts[:, CAR, background].tolist() == [1, 0, 1, 0, 0, 0]
    assert np.isnan(analysis.mean_ap50[bins["20-32"]]) and np.isnan(analysis.mean_lost[bins["20-32"]]).all()


@pytest.mark.parametrize(("side", "name"), [(11, "< 12"), (12, "12-20"), (20, "20-32"), (32, "32-96"), (96, "> 96")])
def test_a_size_on_a_border_is_in_the_upper_bin(side: int, name: str) -> None:
    analysis = analyse(truth([((9, 9, side, side), CAR)]), found())
    there = ~np.isnan(analysis.ap50[1:, CAR])
    assert [bin_name for bin_name, is_there in zip(SIZE_BINS, there, strict=True) if is_there] == [name]


@pytest.mark.parametrize("limit", [5, 500])
@pytest.mark.parametrize("seed", range(3))
def test_ap50_is_that_of_coco(seed: int, limit: int) -> None:
    protocol = CocoProtocol(max_detections=(limit,))
    images = sorted(zip(*random_images(seed), strict=True), key=lambda image: image[0].image_id)  # as equal scores are
    records, detections = zip(*images, strict=True)
    coco = protocol.score(records, detections, CLASSES)
    outcomes = find_outcomes(records, detections, len(CLASSES), protocol.limit)
    assert decompose(outcomes).mean_ap50[0] == pytest.approx(coco["AP50"], abs=1e-6)
    assert np.nanmean(precision_over_recall(outcomes)) == pytest.approx(coco["AP50"], abs=1e-6)


def test_misses_cost_nothing_where_all_objects_of_a_class_are_missed_and_such_classes_are_counted() -> None:
    record = truth([(PLACE, CAR), ((400, 400, 20, 20), CAR), ((500, 500, 20, 20), BUS), ((600, 600, 8, 8), 2)])
    rows = found((PLACE, CAR, 0.9), (NOWHERE, BUS, 0.8), (NOWHERE, 2, 0.7))
    analysis = analyse(record, rows)
    for error in ("Miss", "FN"):
        costs = analysis.lost[0, :, ERRORS.index(error)]
        assert costs == pytest.approx([1 - 51 / 101, 0, 0])  # tidecv: no positives, an AP of 0
    assert analysis.counts[0, :, ERRORS.index("Miss")].tolist() == [1, 1, 1]
    assert (analysis.without_find.tolist(), analysis.with_objects.tolist()) == ([2, 1, 0, 1, 0, 0], [3, 1, 0, 2, 0, 0])


def test_mending_never_costs() -> None:
    records, detections = random_images(0)
    analysis = decompose(find_outcomes(records, detections, len(CLASSES)))
    assert np.nanmin(analysis.lost) > -1e-12
    assert (analysis.counts[0] == analysis.counts[1:].sum(axis=0)).all()
    assert (analysis.counts[..., :5].sum(axis=-1) == analysis.counts[..., ERRORS.index("FP")]).all()


def test_perfect_detections_lose_nothing() -> None:
    records, _ = random_images(0)
    analysis = decompose(find_outcomes(records, [perfect(record) for record in records], len(CLASSES)))
    assert analysis.mean_ap50[0] == pytest.approx(1)
    assert analysis.counts.sum() == 0 and np.nansum(analysis.lost) == pytest.approx(0)


def test_without_images_there_is_nothing() -> None:
    analysis = decompose(find_outcomes([], [], len(CLASSES)))
    assert np.isnan(analysis.mean_ap50).all() and analysis.counts.sum() == 0


@pytest.mark.parametrize(("per_class", "left"), [(True, 4), (False, 3)])
def test_the_limit_is_per_image_and_maybe_per_class(per_class: bool, left: int) -> None:
    rows = [(NOWHERE, CAR, 0.9)] * 3 + [(NOWHERE, BUS, 0.7), (PLACE, CAR, 0.5)]
    limit = DetectionLimit(3, per_class)
    outcomes = find_outcomes([truth([(PLACE, CAR)])], [found(*rows)], len(CLASSES), limit)
    assert (len(outcomes.scores), outcomes.found.tolist()) == (left, [False])


def test_without_a_limit_every_detection_of_an_image_counts() -> None:
    rows = [(NOWHERE, CAR, 0.9)] * 2000 + [(PLACE, CAR, 0.5)]
    outcomes = find_outcomes([truth([(PLACE, CAR)])], [found(*rows)], len(CLASSES))
    assert (len(outcomes.scores), outcomes.found.tolist()) == (2001, [True])


def test_recall_is_counted_between_edges() -> None:
    record = truth(
        [((100, 100, 8, 8), CAR), ((200, 200, 10, 10), CAR), ((300, 300, 9, 9), BUS), ((50, 50, 40, 40), BUS)]
    )
    detections = found(((100, 100, 8, 8), CAR, 0.1), ((50, 50, 40, 40), BUS, 0.2))
    curve = recall_by_size(find_outcomes([record], [detections], len(CLASSES)), np.array([0, 8, 10, 20, np.inf]))
    np.testing.assert_array_equal(curve.recall, [np.nan, 1 / 2, 0, 1])
    assert curve.objects.tolist() == [0, 2, 1, 1]


def test_precision_over_recall_is_the_envelope() -> None:
    record = truth([(PLACE, CAR), ((400, 400, 20, 20), CAR)])
    rows = found((NOWHERE, CAR, 0.9), (PLACE, CAR, 0.8), ((400, 400, 20, 20), CAR, 0.7))
    curves = precision_over_recall(find_outcomes([record], [rows], len(CLASSES)))
    np.testing.assert_allclose(curves[CAR], 2 / 3)
    assert np.isnan(curves[BUS]).all()
