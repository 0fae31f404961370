from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mrqm.data.augmentation.canvas import Canvas
from mrqm.data.augmentation.symmetries import Symmetries, flip_horizontally, flip_vertically, turn

from .references import extent_of, make_canvas, mask_of, random_boxes

SIZE = (40, 61)
CHANGES: dict[str, tuple[Callable[[Canvas], Canvas], Callable[[np.ndarray], np.ndarray]]] = {
    "horizontal flip": (flip_horizontally, lambda pixels: pixels[..., ::-1]),
    "vertical flip": (flip_vertically, lambda pixels: pixels[..., ::-1, :]),
    "turn by 90°": (lambda canvas: turn(canvas, 1), lambda pixels: np.rot90(pixels, 1, (-2, -1))),
    "turn by 180°": (lambda canvas: turn(canvas, 2), lambda pixels: np.rot90(pixels, 2, (-2, -1))),
    "turn by 270°": (lambda canvas: turn(canvas, 3), lambda pixels: np.rot90(pixels, 3, (-2, -1))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_pixels_and_boxes_move_as_masks_do(name: str) -> None:
    change, reference = CHANGES[name]
    boxes = random_boxes(SIZE, 30, np.random.default_rng(1))
    canvas = make_canvas(SIZE, boxes[:20], boxes[20:])
    changed = change(canvas)
    np.testing.assert_array_equal(changed.pixels, reference(canvas.pixels.numpy()))
    expected = [extent_of(reference(mask_of(box, SIZE))) for box in boxes]
    assert changed.boxes.xyxy.tolist() == expected
    assert changed.boxes.labels.tolist() == canvas.boxes.labels.tolist()
    np.testing.assert_array_equal(changed.boxes.whole, canvas.boxes.whole)


def test_a_canvas_without_boxes_is_turned() -> None:
    assert turn(make_canvas(SIZE), 1).boxes.xyxy.shape == (0, 4)


@pytest.mark.parametrize(("key", "possible"), [("horizontal_flip", 1), ("vertical_flip", 1), ("quarter_turns", 3)])
def test_changes_come_as_often_as_asked(key: str, possible: int) -> None:
    canvas, symmetries = make_canvas((8, 8)), Symmetries(**{key: 0.25})
    results = [symmetries.apply(canvas, np.random.default_rng(seed)).pixels for seed in range(400)]
    changed = [result for result in results if not torch.equal(result, canvas.pixels)]
    assert 0.18 < len(changed) / 400 < 0.32
    kinds = {result.numpy().tobytes() for result in changed}
    assert len(kinds) == possible
    assert all(sum(r.numpy().tobytes() == kind for r in changed) > 0.2 * len(changed) for kind in kinds)


def test_nothing_changes_by_default() -> None:
    canvas = make_canvas(SIZE, [(1, 2, 30, 20)])
    assert Symmetries().apply(canvas, np.random.default_rng(0)) is canvas
