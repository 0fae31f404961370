"""Images and detections shared by the tests of result files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import Detections

from ...evaluation.scenes import Box, truth

CLASSES = ("boat", "buoy")


def make_record(image_id: int | str, stem: str, objects: Sequence[tuple[Box, int]] = ()) -> ImageRecord:
    return replace(truth(objects, size=(540, 960)), path=Path(f"images/{stem}.jpg"), image_id=image_id)


RECORDS = (make_record(9, "b"), make_record(5, "a"), make_record(7, "c"))


def random_detections(seed: int, count: int) -> Detections:
    rng = np.random.default_rng(seed)
    left_top = rng.uniform(0, 400, (count, 2)).astype(np.float32)
    boxes = np.concatenate([left_top, rng.uniform(3, 40, (count, 2))], axis=1)
    return Detections(boxes, np.sort(rng.random(count))[::-1], rng.integers(0, 2, count))


FOUND = (random_detections(0, 30), random_detections(1, 0), random_detections(2, 7))


def assert_same(found: tuple[Detections, ...], expected: tuple[Detections, ...]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.boxes_xywh, b.boxes_xywh, atol=1e-4)
        np.testing.assert_array_equal(a.scores, b.scores)
        np.testing.assert_array_equal(a.labels, b.labels)
        assert (a.boxes_xywh.shape[1], a.boxes_xywh.dtype, a.scores.dtype, a.labels.dtype) == (4, "f8", "f8", "i8")
