from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from mrqm.data.augmentation.views import View, ViewSampler, place_boxes, plain_view, take_pixels
from mrqm.data.images.tiling import grid
from mrqm.structures.window import Window

Painted = Callable[..., NDArray[np.uint8]]

SIZE = (200, 300)
BOX = (140.0, 90.0, 170.0, 105.0)
STILL = ViewSampler(scale_jitter=(1, 1), random_crop=False, tile=None, max_side=None)


def take(view: View, image: NDArray[np.uint8], *boxes: tuple[float, ...]) -> tuple[torch.Tensor, NDArray[np.float32]]:
    placed = place_boxes(view, np.array(boxes, dtype=np.float32).reshape(-1, 4))
    return take_pixels(view, image.transpose(2, 0, 1)), placed


def extent(image: torch.Tensor) -> list[int] | None:
    """Compute the xyxy extent of the bright pixels; None if there are none."""
    bright = image[0] > 145  # half way between background and object
    rows, columns = bright.any(dim=1).nonzero().flatten(), bright.any(dim=0).nonzero().flatten()
    if len(rows) == 0:
        return None
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def draws(sampler: ViewSampler, window: Window, count: int = 100) -> list[View]:
    return [sampler.draw(window, SIZE, np.random.default_rng(seed)) for seed in range(count)]


def test_a_plain_view_is_the_window_itself(painted: Painted) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    view, boxes = take(plain_view(Window(100, 50, 120, 80)), image, BOX)
    np.testing.assert_array_equal(view.permute(1, 2, 0), image[50:130, 100:220])
    assert view.is_contiguous()
    assert boxes.tolist() == [[40, 40, 70, 55]]


def test_boxes_are_clipped_and_have_no_area_outside(painted: Painted) -> None:
    _, boxes = take(plain_view(Window(100, 50, 50, 50)), painted(SIZE), BOX, (0, 0, 20, 20))
    assert boxes[0].tolist() == [40, 40, 50, 50]
    assert (boxes[1, 2:] - boxes[1, :2]).prod() == 0


def test_the_image_is_not_written_to(painted: Painted) -> None:
    image = painted(SIZE, [BOX])
    view, _ = take(plain_view(Window(0, 0, 300, 200)), image)
    view.zero_()
    np.testing.assert_array_equal(image, painted(SIZE, [BOX]))


@pytest.mark.parametrize("changes", [
    {"tile": 96, "random_crop": True, "scale_jitter": (0.5, 2.0)},
    {"tile": 96, "random_crop": False, "scale_jitter": (0.5, 2.0)},
    {"tile": 256, "random_crop": True, "scale_jitter": (0.7, 1.5)},
    {"tile": None, "scale_jitter": (0.4, 1.6)},
    {"tile": None, "scale_jitter": (0.4, 1.6), "max_side": 310},
])  # fmt: skip
def test_boxes_stay_on_their_object(painted: Painted, changes: dict[str, Any]) -> None:
    sampler, image = replace(STILL, **changes), painted(SIZE, [BOX])
    windows = grid(SIZE, sampler.tile, 20) if sampler.tile else [Window(0, 0, 300, 200)]
    seen = 0
    for window in windows:
        for view in draws(sampler, window, 20):
            picture, boxes = take(view, image, BOX)
            found = extent(picture)
            if found is not None:
                seen += 1
                np.testing.assert_allclose(boxes[0], found, atol=1.01)
            else:
                assert (boxes[0, 2:] - boxes[0, :2]).min() < 1
    assert seen > 10


def test_tiles_keep_their_size_whatever_the_zoom() -> None:
    sampler = replace(STILL, tile=96, scale_jitter=(0.6, 2.0), random_crop=True)
    for view in draws(sampler, Window(76, 76, 96, 96)):
        assert view.size == (96, 96)
        left, top, width, height = view.window
        assert 0 <= left <= SIZE[1] - width
        assert 0 <= top <= SIZE[0] - height


def test_tiles_of_a_small_image_are_no_larger_than_it() -> None:
    sampler = replace(STILL, tile=256, scale_jitter=(0.5, 0.5))
    view = sampler.draw(Window(0, 0, 256, 200), SIZE, np.random.default_rng(0))
    assert view.window == Window(0, 0, 300, 200)
    assert view.size == (100, 150)


def test_random_crops_touch_the_items_window() -> None:
    sampler = replace(STILL, tile=96, random_crop=True, scale_jitter=(0.5, 2.0))
    item = Window(76, 76, 96, 96)
    lefts = set()
    for left, top, width, height in (view.window for view in draws(sampler, item)):
        assert left < item.left + item.width
        assert left + width > item.left
        assert top < item.top + item.height
        assert top + height > item.top
        lefts.add(left)
    assert len(lefts) > 20


def test_zoomed_views_without_random_crops_stay_inside_the_items_window() -> None:
    item = Window(76, 76, 96, 96)
    for left, top, width, height in (v.window for v in draws(replace(STILL, tile=96, scale_jitter=(1, 3)), item)):
        assert item.left - 1 <= left
        assert left + width <= item.left + item.width + 1
        assert item.top - 1 <= top
        assert top + height <= item.top + item.height + 1


def test_the_grid_is_kept_without_jitter_and_random_crops() -> None:
    still = replace(STILL, tile=96)
    assert still.keeps_grid
    for window in grid(SIZE, 96, 20):
        assert still.draw(window, SIZE, np.random.default_rng(0)) == plain_view(window)


@pytest.mark.parametrize("changes", [{"random_crop": True}, {"scale_jitter": (0.9, 1.0)}])
def test_random_crops_and_zooms_leave_the_grid(changes: dict[str, Any]) -> None:
    wild = replace(STILL, tile=96, **changes)
    assert not wild.keeps_grid
    window = Window(76, 76, 96, 96)
    assert any(view.window != window for view in draws(wild, window))


def test_pixels_and_boxes_are_exactly_what_torchvision_makes_of_them() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (3, *SIZE), dtype=np.uint8)
    corners = rng.uniform((-20, -20), SIZE[::-1], (200, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 90, (200, 2))], axis=1).astype(np.float32)
    wild = replace(STILL, tile=96, random_crop=True, scale_jitter=(0.5, 2.0))
    for view in [
        *draws(wild, Window(76, 76, 96, 96), 20),
        *draws(replace(wild, tile=None), Window(0, 0, 300, 200), 20),
    ]:
        left, top, width, height = view.window
        expected, wrapped = F.crop(torch.from_numpy(image), top, left, height, width), tv_tensors.BoundingBoxes(
            torch.from_numpy(boxes), format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=SIZE
        )  # fmt: skip
        wrapped = F.crop(wrapped, top, left, height, width)
        expected, wrapped = F.resize(expected, list(view.size), antialias=True), F.resize(wrapped, list(view.size))
        assert torch.equal(take_pixels(view, image), expected)
        np.testing.assert_array_equal(place_boxes(view, boxes), wrapped)


def test_a_view_of_some_columns_is_that_of_the_whole_image() -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, *SIZE), dtype=np.uint8)
    view = plain_view(Window(100, 50, 60, 80))
    part = take_pixels(view, np.ascontiguousarray(image[:, :, 90:180]), left=90)
    assert torch.equal(part, take_pixels(view, image))


def test_whole_images_are_never_larger_than_the_longest_side() -> None:
    sizes = [v.size for v in draws(replace(STILL, scale_jitter=(0.5, 2), max_side=330), Window(0, 0, 300, 200))]
    assert max(max(size) for size in sizes) == 330
    assert min(max(size) for size in sizes) < 200


def test_zooms_are_log_uniform_within_their_range() -> None:
    views = draws(replace(STILL, scale_jitter=(0.5, 2)), Window(0, 0, 300, 200), 400)
    zooms = np.array([view.size[1] / 300 for view in views])
    assert zooms.min() >= 0.49
    assert zooms.max() <= 2.01
    assert 0.4 < (zooms < 1).mean() < 0.6
