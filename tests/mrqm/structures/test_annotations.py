from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mrqm.structures.annotations import ImageRecord, Repairs
from mrqm.structures.ground_truth import IGNORED_REGION, OTHER_OBJECT, make_ground_truth


def record(*boxes: Sequence[float]) -> ImageRecord:
    """Make an image of 80×100 px with xywh boxes of one class."""
    truth = make_ground_truth(np.array(boxes, dtype=np.float64).reshape(-1, 4), np.zeros(len(boxes), dtype=np.int64))
    return ImageRecord(Path("a.png"), 0, (80, 100), truth)


def repair(*boxes: Sequence[float]) -> Repairs:
    repairs = Repairs()
    xywh = record(*boxes).truth.boxes_xywh
    repairs.note_boxes(xywh, (80, 100), [f"a:{number}" for number in range(1, len(boxes) + 1)])
    return repairs


def test_training_gets_clipped_boxes_and_scoring_those_that_are_written() -> None:
    boxes = [(-5.0, 2, 15, 88), (1.1, 1, 4, 4)]
    np.testing.assert_array_equal(record(*boxes).boxes, np.float32([[0, 2, 10, 80], [1.1, 1, 5.1, 5]]))
    np.testing.assert_array_equal(record(*boxes).truth.boxes_xywh, boxes)
    assert repair(*boxes) == Repairs(clipped=1)


def test_training_gets_no_boxes_without_area_or_outside_and_scoring_does() -> None:
    boxes = [(5, 5, 0, 4), (9, 5, -4, 4), (100, 0, 20, 10), (1, 1, 4, 4)]
    np.testing.assert_array_equal(record(*boxes).boxes, [[1, 1, 5, 5]])
    assert len(record(*boxes).truth) == 4
    assert repair(*boxes) == Repairs(degenerate=2, outside=1)


def test_crowds_ignored_objects_and_regions_are_no_objects_to_find() -> None:
    boxes = np.array([[1, 1, 4, 4]] * 5, dtype=np.float64)
    flags = np.eye(5, dtype=bool)
    truth = make_ground_truth(
        boxes, np.array([0, 1, 2, IGNORED_REGION, OTHER_OBJECT]), crowd=flags[0], ignored=flags[1]
    )
    image = ImageRecord(Path("a.png"), 0, (80, 100), truth)
    assert (image.labels.tolist(), image.ignore_labels.tolist()) == ([2], [0, 1, IGNORED_REGION, OTHER_OBJECT])
    assert (len(image.boxes), len(image.ignore_boxes)) == (1, 4)


def test_an_image_without_boxes_needs_no_repair() -> None:
    assert record().boxes.shape == record().ignore_boxes.shape == (0, 4)
    assert repair().summary() == ""


def test_a_box_that_leaves_its_image_by_rounding_needs_no_repair() -> None:
    assert repair((-0.004, 2, 10, 10)) == Repairs()
    assert record((-0.004, 2, 10, 10)).boxes[0, 0] == 0


def test_the_summary_names_every_repair() -> None:
    assert Repairs(degenerate=1, clipped=3).summary() == (
        "1 box of zero or negative size dropped, 3 boxes clipped to the image"
    )


def test_every_repair_is_kept_with_its_place() -> None:
    repairs = Repairs()
    boxes = np.array([[-5.0, 2, 15, 7], [1, 1, 4, 4], [5, 5, 0, 4]])
    repairs.note_boxes(boxes, (80, 100), ["a.txt:1", "a.txt:2", "a.txt:7"])
    repairs.note("b.txt:3", "trailing comma left out")
    assert repairs.log == [
        ("a.txt:7", "box [5, 5, 5, 9] of zero or negative size dropped"),
        ("a.txt:1", "box [-5, 2, 10, 9] clipped to the image"),
        ("b.txt:3", "trailing comma left out"),
    ]
