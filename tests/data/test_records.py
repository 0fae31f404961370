from __future__ import annotations

import numpy as np

from mrqm.data.records import Repairs


def test_boxes_are_clipped_to_their_image_and_counted() -> None:
    repairs = Repairs()
    boxes, kept = repairs.clip(np.array([[-5.0, 2, 10, 90], [1, 1, 5, 5]]), (80, 100), ["a:1", "a:2"])
    np.testing.assert_array_equal(boxes, [[0, 2, 10, 80], [1, 1, 5, 5]])
    assert kept.tolist() == [True, True]
    assert repairs == Repairs(clipped=1)


def test_boxes_without_area_and_boxes_outside_are_dropped_and_counted() -> None:
    repairs = Repairs()
    places = ["a:1", "a:2", "a:3", "a:4"]
    boxes, kept = repairs.clip(
        np.array([[5.0, 5, 5, 9], [9, 5, 5, 9], [100, 0, 120, 10], [1, 1, 5, 5]]), (80, 100), places
    )
    np.testing.assert_array_equal(boxes, [[1, 1, 5, 5]])
    assert kept.tolist() == [False, False, False, True]
    assert repairs == Repairs(degenerate=2, outside=1)


def test_an_image_without_boxes_needs_no_repair() -> None:
    repairs = Repairs()
    boxes, kept = repairs.clip(np.zeros((0, 4)), (80, 100), [])
    assert boxes.shape == (0, 4)
    assert kept.shape == (0,)
    assert repairs.summary() == ""


def test_the_summary_names_every_repair() -> None:
    assert Repairs(degenerate=1, clipped=3).summary() == (
        "1 box of zero or negative size dropped, 3 boxes clipped to the image"
    )


def test_every_repair_is_kept_with_its_place() -> None:
    repairs = Repairs()
    repairs.clip(np.array([[-5.0, 2, 10, 9], [1, 1, 5, 5], [5, 5, 5, 9]]), (80, 100), ["a.txt:1", "a.txt:2", "a.txt:7"])
    repairs.note("b.txt:3", "trailing comma left out")
    assert repairs.log == [
        ("a.txt:7", "box [5, 5, 5, 9] of zero or negative size dropped"),
        ("a.txt:1", "box [-5, 2, 10, 9] clipped to the image"),
        ("b.txt:3", "trailing comma left out"),
    ]
