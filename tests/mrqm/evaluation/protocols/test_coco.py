"""COCO's protocol against plain pycocotools on json files, and several protocols over one set of detections."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrqm.config import EvaluationConfig
from mrqm.data.results.writer import write_coco_results
from mrqm.evaluation import CocoProtocol, SodaProtocol, VisDroneProtocol, build_protocol, score_under
from mrqm.structures.annotations import IGNORED_REGION, OTHER_OBJECT, ImageRecord
from mrqm.structures.detections import Detections

from ..scenes import CLASSES, found, perfect, random_images, truth

CAR = ((10, 10, 20, 20), 0)
BINS = ("small", "medium", "large")


def plain_pycocotools(
    folder: Path, records: Sequence[ImageRecord], detections: Sequence[Detections]
) -> dict[str, float]:
    annotations: list[dict[str, Any]] = []
    for record in records:
        truth = record.truth
        columns = (truth.boxes_xywh.tolist(), truth.labels.tolist(), truth.crowd.tolist())
        for box, label, crowd in zip(*columns, strict=True):
            for k in [label] if label >= 0 else range(len(CLASSES)):
                annotations.append(
                    {"image_id": record.image_id, "category_id": k + 1, "bbox": box, "iscrowd": int(crowd)}
                    | {"id": len(annotations) + 1, "area": box[2] * box[3]}
                )
    images = [{"id": record.image_id} for record in records]
    categories = [{"id": k, "name": name} for k, name in enumerate(CLASSES, start=1)]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "truth.json").write_text(json.dumps(content))
    by_image = {record.image_id: image for record, image in zip(records, detections, strict=True)}
    write_coco_results(folder / "results.json", by_image, category_ids=(1, 2, 3))
    coco = COCO(str(folder / "truth.json"))
    evaluation = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    names = ("AP", "AP50", "AP75", *(f"AP_{name}" for name in BINS), "AR@1", "AR@10", "AR@100")
    expected = dict(zip((*names, *(f"AR_{name}" for name in BINS)), evaluation.stats.tolist(), strict=True))
    return {name: math.nan if value == -1 else value for name, value in expected.items()}


@pytest.mark.parametrize("seed", range(4))
def test_equals_plain_pycocotools(seed: int, tmp_path: Path) -> None:
    records, detections = random_images(seed)
    expected = plain_pycocotools(tmp_path, records, detections)
    metrics = CocoProtocol().score(records, detections, CLASSES)
    assert 0.05 < expected["AP"] < 0.95
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_keys() -> None:
    metrics = CocoProtocol({"tiny": (0, 100)}, (50, 500)).score([truth([CAR])], [found()], CLASSES)
    of_classes = [f"AP/{name}" for name in CLASSES]
    assert list(metrics) == ["AP", "AP50", "AP75", "AP_tiny", "AR@50", "AR@500", "AR_tiny", *of_classes]


@pytest.mark.parametrize(("before", "expected"), [(99, 1 / 100), (100, 0)])
def test_the_limit_of_100_is_per_class(before: int, expected: float) -> None:
    strays = [((400 + i % 50, 200 + i % 40, 9, 9), 0, 0.9) for i in range(before)]
    of_another = [((300 + i % 50, 200 + i % 40, 9, 9), 1, 0.9) for i in range(100)]
    detections = found(*strays, *of_another, (*CAR, 0.5))
    assert CocoProtocol().score([truth([CAR])], [detections], CLASSES)["AP"] == pytest.approx(expected)


def test_a_larger_limit_counts_more() -> None:
    strays = [((400 + i % 50, 200 + i % 40, 9, 9), 0, 0.9) for i in range(100)]
    metrics = CocoProtocol(max_detections=(100, 500)).score([truth([CAR])], [found(*strays, (*CAR, 0.5))], CLASSES)
    assert metrics["AP"] == pytest.approx(1 / 101)
    assert (metrics["AR@100"], metrics["AR@500"]) == (0, 1)


@pytest.mark.parametrize("label", [IGNORED_REGION, OTHER_OBJECT, 0])
def test_a_detection_inside_an_ignored_box_is_neither_right_nor_wrong(label: int) -> None:
    record = truth([CAR], [((300, 300, 100, 100), label)])
    detections = found(((320, 320, 20, 20), 0, 0.9), ((340, 320, 20, 20), 0, 0.9), (*CAR, 0.5))
    assert CocoProtocol().score([record], [detections], CLASSES)["AP"] == pytest.approx(1)


@pytest.mark.parametrize("shuffled", [False, True])
def test_perfect_detections_score_one(shuffled: bool) -> None:
    records, _ = random_images(0)
    metrics = CocoProtocol().score(records, [perfect(record, shuffled=shuffled) for record in records], CLASSES)
    for name in ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AR@100", "AP/car", "AP/bus"):
        assert metrics[name] == pytest.approx(1), name
    assert math.isnan(metrics["AP_large"]) and math.isnan(metrics["AP/person"])


def test_regions_and_others_can_be_dropped_and_crowds_of_a_class_stay() -> None:
    boxes = [((300, 300, 100, 100), IGNORED_REGION), ((500, 300, 50, 50), OTHER_OBJECT), ((700, 300, 50, 50), 0)]
    record = truth([CAR], boxes)
    protocol = CocoProtocol(without_class="drop")
    for (left, top, *_), label in boxes:
        detections = found(((left + 5, top + 5, 20, 20), 0, 0.9), (*CAR, 0.5))
        assert CocoProtocol().score([record], [detections], CLASSES)["AP"] == pytest.approx(1)
        expected = 1 if label == 0 else 0.5
        assert protocol.score([record], [detections], CLASSES)["AP"] == pytest.approx(expected)
    assert (protocol.name, CocoProtocol().name) == ("coco-drop-ignored", "coco")


def test_one_detection_of_an_ignored_object_costs_nothing_and_it_need_not_be_found() -> None:
    flagged = ((300, 300, 30, 30), 0)
    record = truth([CAR], flagged=[flagged])
    for rows, expected in (([], 1), ([(*flagged, 0.9)], 1), ([(*flagged, 0.9), (*flagged, 0.8)], 0.5)):
        score = CocoProtocol().score([record], [found(*rows, (*CAR, 0.5))], CLASSES)
        assert score["AP"] == pytest.approx(expected)


def test_a_dense_limit_adds_figures_and_changes_none() -> None:
    strays = [((400 + i % 50, 200 + i % 40, 9, 9), 0, 0.9) for i in range(100)]
    arguments = [truth([CAR])], [found(*strays, (*CAR, 0.5))], CLASSES
    plain, dense = CocoProtocol().score(*arguments), CocoProtocol(dense_limit=500).score(*arguments)
    assert dense.keys() - plain.keys() == {"AP@500", "AR@500"}
    assert repr({name: dense[name] for name in plain}) == repr(plain)
    assert (dense["AP"], dense["AP@500"], dense["AR@500"]) == (0, pytest.approx(1 / 101), 1)


def test_areas_are_those_of_the_annotations() -> None:
    record = truth([CAR])
    record = replace(record, truth=replace(record.truth, areas=np.array([2000.0])))
    metrics = CocoProtocol().score([record], [found((*CAR, 0.5))], CLASSES)
    assert metrics["AP_medium"] == pytest.approx(1) and math.isnan(metrics["AP_small"])


@pytest.mark.parametrize(("limit", "dense"), [(50, None), (100, None), (500, 500)])
def test_training_and_evaluation_count_as_pycocotools_and_beyond(limit: int, dense: int | None) -> None:
    settings = EvaluationConfig(max_detections=limit)
    protocol = build_protocol("coco", settings)
    assert protocol == CocoProtocol(settings.area_bins, dense_limit=dense)


def test_settings_that_change_figures_are_in_the_version() -> None:
    versions = {
        CocoProtocol().version,
        CocoProtocol({"tiny": (0, 9)}).version,
        CocoProtocol(max_detections=(9,)).version,
        CocoProtocol(dense_limit=500).version,
    }
    assert len(versions) == 4


def test_one_set_is_scored_under_several_protocols() -> None:
    record = truth([CAR], [((300, 300, 100, 100), IGNORED_REGION)])
    inside = ((320, 320, 20, 20), 0)
    strays = [((500 + i, 500, 9, 9), 1, 0.95) for i in range(499)]
    detections = found(*strays, (*inside, 0.9), (*CAR, 0.5))
    metrics = score_under([CocoProtocol(), VisDroneProtocol(), SodaProtocol()], [record], [detections], CLASSES)
    assert metrics["coco/AP/car"] == pytest.approx(1)  # an excused detection
    assert metrics["visdrone/AP/car"] == pytest.approx(1)  # removed before the 500 are counted
    assert metrics["soda-d/AP/car"] == pytest.approx(0.5)  # regions do not exist there
    assert len(metrics) == sum(
        len(p.score([record], [detections], CLASSES)) for p in (CocoProtocol(), VisDroneProtocol(), SodaProtocol())
    )


def test_given_detections_are_left_alone() -> None:
    records, detections = random_images(1)
    before = [
        (d.boxes_xywh.copy(), d.scores.copy(), r.truth.boxes_xywh.copy())
        for d, r in zip(detections, records, strict=True)
    ]
    score_under([CocoProtocol(), VisDroneProtocol(), SodaProtocol()], records, detections, CLASSES)
    for (boxes, scores, objects), detection, record in zip(before, detections, records, strict=True):
        np.testing.assert_array_equal(detection.boxes_xywh, boxes)
        np.testing.assert_array_equal(detection.scores, scores)
        np.testing.assert_array_equal(record.truth.boxes_xywh, objects)


def test_without_detections_is_zero_and_without_objects_nan() -> None:
    metrics = CocoProtocol().score([truth([CAR])], [found()], CLASSES)
    assert [metrics[name] for name in ("AP", "AP50", "AP_small", "AR@100", "AP/car")] == [0] * 5
    assert all(math.isnan(metrics[name]) for name in ("AP_large", "AP/bus"))


def test_false_alarms_on_an_image_without_objects_cost() -> None:
    records, empty = [truth([CAR]), truth([], image_id=1)], found((*CAR, 0.9))
    assert CocoProtocol().score(records, [found((*CAR, 0.5)), empty], CLASSES)["AP"] == pytest.approx(0.5)
    assert CocoProtocol().score(records, [found((*CAR, 0.5)), found()], CLASSES)["AP"] == pytest.approx(1)


def test_a_detection_beside_an_ignored_region_costs() -> None:
    record = truth([CAR], [((190, 190, 150, 50), IGNORED_REGION)])
    detections = found(((400, 200, 10, 10), 0, 0.9), (*CAR, 0.5))
    assert CocoProtocol().score([record], [detections], CLASSES)["AP"] == pytest.approx(0.5)


def test_an_ignored_region_is_not_an_object_to_find() -> None:
    record = truth([], [((190, 190, 150, 50), IGNORED_REGION)])
    assert math.isnan(CocoProtocol().score([record], [found()], CLASSES)["AP"])


def test_a_crowd_of_one_class_excuses_no_detection_of_another() -> None:
    record = truth([CAR, (CAR[0], 1)], [((190, 190, 150, 50), 0)])
    inside = (200, 200, 20, 20)
    detections = found((inside, 0, 0.9), (inside, 1, 0.9), (*CAR, 0.5), (CAR[0], 1, 0.5))
    metrics = CocoProtocol().score([record], [detections], CLASSES)
    assert (metrics["AP/car"], metrics["AP/bus"]) == pytest.approx((1, 0.5))


def test_objects_outside_a_bin_do_not_count_in_it_and_those_on_its_border_do() -> None:
    bins = {"tiny": (0, 100), "small": (100, 400)}
    record = truth([((10, 10, 10, 10), 0), ((100, 100, 20, 20), 0), ((50, 50, 5, 5), 0)])
    metrics = CocoProtocol(bins).score([record], [found(((10, 10, 10, 10), 0, 0.5))], CLASSES)
    assert metrics["AP_tiny"] == metrics["AP_small"] == pytest.approx(51 / 101)
