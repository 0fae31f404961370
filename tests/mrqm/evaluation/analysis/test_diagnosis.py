"""Diagnosis of results written in other forms than result files have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrqm.evaluation.analysis.diagnosis import diagnose
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import Detections

from ..scenes import CLASSES, truth

SIZES = [(480, 640), (540, 960), (1000, 750), (600, 600), (720, 1280), (333, 500)]


def crowded(seed: int = 0) -> tuple[list[ImageRecord], list[Detections]]:
    """Make images of several sizes, with most objects nearly detected, some not, and stray detections."""
    rng = np.random.default_rng(seed)
    records, detections = [], []
    for number, (height, width) in enumerate(SIZES):
        sides = rng.integers(8, 40, (40, 2))
        boxes = np.concatenate([rng.uniform(0, 1, (40, 2)) * ([width, height] - sides), sides], axis=1).round()
        labels = rng.integers(0, 3, 40)
        records.append(
            truth(list(zip(boxes.tolist(), labels.tolist(), strict=True)), image_id=number + 1, size=(height, width))
        )
        found = np.concatenate([boxes[:28] + rng.normal(0, 0.8, (28, 4)), boxes[rng.permutation(40)[:12]] + 60])
        of = np.concatenate([labels[:28], rng.integers(0, 3, 12)])
        detections.append(Detections(found, np.sort(rng.random(40))[::-1], of))
    return records, detections


Rewrite = Callable[[np.ndarray, int, int], np.ndarray]


@pytest.mark.parametrize(
    ("rewrite", "said"),
    [
        (lambda b, h, w: np.hstack([b[:, :2], b[:, :2] + b[:, 2:]]), "[left, top, right, bottom] in px"),
        (lambda b, h, w: np.hstack([b[:, :2] + b[:, 2:] / 2, b[:, 2:]]), "[centre x, centre y, width, height] in px"),
        (lambda b, h, w: b / [w, h, w, h], "[left, top, width, height] in shares of the image's sides"),
        (
            lambda b, h, w: np.hstack([b[:, :2] + b[:, 2:] / 2, b[:, 2:]]) / [w, h, w, h],
            "[centre x, centre y, width, height] in shares of the image's sides",
        ),
        (lambda b, h, w: 2 * b, "[left, top, width, height] in px of the image at twice its size"),
        (lambda b, h, w: b / 2, "[left, top, width, height] in px of the image at half its size"),
        (lambda b, h, w: b * 640 / max(h, w), "[left, top, width, height] in px of the image resized to 640"),
        (lambda b, h, w: b[:, [1, 0, 3, 2]], "[top, left, height, width] in px"),
        (
            lambda b, h, w: 1000 * np.hstack([b[:, [1, 0]], b[:, [1, 0]] + b[:, [3, 2]]]) / [h, w, h, w],
            "[top, left, bottom, right] in thousandths of the image's sides",
        ),
    ],
)
def test_boxes_in_another_form_are_recognised(rewrite: Rewrite, said: str) -> None:
    records, right = crowded()
    wrong = [replace(f, boxes_xywh=rewrite(f.boxes_xywh, *r.size)) for r, f in zip(records, right, strict=True)]
    diagnosis = diagnose(records, wrong, CLASSES)
    assert diagnosis.advice == f"they fit if read as follows: {said}"
    assert diagnosis.fits[1].what == said
    assert diagnosis.fits[0].iou < 0.3 < diagnosis.fits[1].iou


def test_the_fit_is_the_mean_of_the_best_iou_of_each_object() -> None:
    record = truth([((0, 0, 10, 10), 0), ((50, 50, 10, 10), 1), ((90, 90, 10, 10), 0)])
    found = Detections(
        np.array([[0, 0, 10, 5], [0, 0, 10, 8], [50, 50, 10, 10]], dtype=np.float64), np.ones(3), np.array([0, 1, 1])
    )
    fits = {fit.what: fit.iou for fit in diagnose([record], [found], CLASSES).fits}
    assert fits["as they are: [left, top, width, height] in px"] == pytest.approx((0.8 + 1 + 0) / 3)
    assert fits["with objects of the same class only"] == pytest.approx((0.5 + 1 + 0) / 3)


@pytest.mark.parametrize(("shift", "said"), [(1, "image ids are 1 too high"), (-1, "image ids are 1 too low")])
def test_images_shifted_by_one_are_recognised(shift: int, said: str) -> None:
    records, right = crowded()
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.int64))
    wrong = [nothing, *right[:-1]] if shift > 0 else [*right[1:], nothing]
    assert diagnose(records, wrong, CLASSES).advice == f"they fit if read as follows: {said}"


def test_images_numbered_by_their_names_are_recognised() -> None:
    records, right = crowded()
    names = [4, 2, 6, 1, 3, 5]  # image 1 is 4.jpg, and so on
    named = [replace(record, path=Path(f"{name}.jpg")) for record, name in zip(records, names, strict=True)]
    wrong = [right[names.index(record.image_id)] for record in records]  # type: ignore[arg-type]
    assert "order of file names, from 1" in diagnose(named, wrong, CLASSES).advice


@pytest.mark.parametrize(
    ("meant", "said"),
    [
        ((-1, 0, 1), "category ids are 1 too low"),
        ((1, 2, -1), "category ids are 1 too high"),
        ((1, 0, 2), "category ids follow the alphabet"),
        ((2, 1, 0), "[left, top, width, height] in px"),
    ],
)
def test_classes_that_mean_others_are_recognised(meant: tuple[int, ...], said: str) -> None:
    records, right = crowded()
    wrong = []
    for found in right:
        labels = np.array(meant)[found.labels]
        wrong.append(Detections(found.boxes_xywh[labels >= 0], found.scores[labels >= 0], labels[labels >= 0]))
    advice = diagnose(records, wrong, CLASSES).advice
    if meant == (2, 1, 0):
        assert advice == "they fit if read as follows: classes are others (car is person, person is car)"
    else:
        assert said in advice


def test_two_faults_are_told_together() -> None:
    records, right = crowded()
    corners = [np.hstack([f.boxes_xywh[:, :2], f.boxes_xywh[:, :2] + f.boxes_xywh[:, 2:]]) for f in right]
    wrong = [Detections(b, f.scores, (f.labels + 1) % 3) for b, f in zip(corners, right, strict=True)]
    advice = diagnose(records, wrong, CLASSES).advice
    assert "[left, top, right, bottom] in px and " in advice
    assert "car is person" in advice and "bus is car" in advice


def test_noise_is_called_noise() -> None:
    records, _ = crowded()
    _, noise = crowded(seed=9)
    assert diagnose(records, noise, CLASSES).advice == "no other reading fits better"
