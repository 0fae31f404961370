from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrqm.data.images.tiling import black_out, cut, grid, touches, visible_share
from mrqm.structures.window import Window


def test_the_last_window_shifts_back_to_the_border() -> None:
    assert [(window.left, window.top) for window in grid((800, 1700), 800, 150)] == [(0, 0), (650, 0), (900, 0)]


def test_windows_that_end_at_the_border_are_not_repeated() -> None:
    assert [window.left for window in grid((100, 260), 100, 20)] == [0, 80, 160]


def test_a_small_image_is_one_small_window() -> None:
    assert grid((60, 90), 100, 20) == [Window(0, 0, 90, 60)]


def test_windows_go_row_by_row() -> None:
    assert [(window.left, window.top) for window in grid((150, 150), 100, 0)] == [(0, 0), (50, 0), (0, 50), (50, 50)]


@given(height=st.integers(1, 90), width=st.integers(1, 90), size=st.integers(9, 60), share=st.floats(0, 0.8))
def test_windows_cover_the_image_and_stay_inside(height: int, width: int, size: int, share: float) -> None:
    overlap = int(size * share)
    covered = np.zeros((height, width), dtype=bool)
    for left, top, w, h in grid((height, width), size, overlap):
        assert (w, h) == (min(size, width), min(size, height))
        assert 0 <= left <= width - w
        assert 0 <= top <= height - h
        covered[top : top + h, left : left + w] = True
    assert covered.all()


@given(length=st.integers(1, 2000), size=st.integers(9, 120), share=st.floats(0, 0.8))
def test_neighbours_share_at_least_the_overlap(length: int, size: int, share: float) -> None:
    overlap = int(size * share)
    lefts = [window.left for window in grid((1, length), size, overlap)]
    assert all(0 < after - before <= size - overlap for before, after in pairwise(lefts))


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ((10, 10, 20, 20), 1),
        ((0, 10, 20, 20), 0.5),
        ((0, 0, 20, 20), 0.25),
        ((100, 10, 120, 20), 0),
        ((0, 0, 10, 10), 0),
    ],
)
def test_the_visible_share_is_of_the_boxs_area(box: tuple[int, ...], share: float) -> None:
    window = Window(10, 10, 50, 50)
    assert visible_share(np.array([box], dtype=np.float32), window).tolist() == [share]
    assert touches(np.array([box], dtype=np.float32), window).tolist() == [share > 0]


def test_a_share_of_exactly_two_fifths_is_not_above_it() -> None:
    window = Window(0, 0, 4, 6)
    boxes = np.array([[0, 0, 6, 10], [0, 0, 10, 6], [0, 0, 6, 9]], dtype=np.float32)  # 24 of 60, 24 of 60, 24 of 54
    assert (visible_share(boxes, window) > 0.4).tolist() == [False, False, True]


def test_soda_d_patches_of_a_real_size() -> None:
    windows = grid((2500, 3400), 800, 150)
    assert sorted({window.left for window in windows}) == [0, 650, 1300, 1950, 2600]
    assert sorted({window.top for window in windows}) == [0, 650, 1300, 1700]


def test_a_tile_at_a_small_image_is_padded_right_and_bottom() -> None:
    image = np.full((3, 5, 3), 7, dtype=np.uint8)
    tile = cut(image, Window(0, 0, 5, 3), (6, 6))
    assert tile.shape == (6, 6, 3)
    assert (tile[:3, :5] == 7).all()
    assert tile.sum() == image.sum()


def test_regions_are_black_except_under_spared_boxes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        corners = rng.integers(-3, 22, (7, 2, 2))
        boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1) + 1], axis=1).astype(np.float32)
        boxes = boxes.clip(0, 20)
        regions, spared = boxes[:4], boxes[4:]
        image = rng.integers(1, 255, (20, 20, 3), dtype=np.uint8)
        expected = image.copy()
        for y in range(20):
            for x in range(20):
                inside = [(b[0] <= x < b[2]) and (b[1] <= y < b[3]) for b in boxes]
                if any(inside[:4]) and not any(inside[4:]):
                    expected[y, x] = 0
        black_out(image, regions, spared)
        np.testing.assert_array_equal(image, expected)


def test_a_region_blackens_every_pixel_that_it_touches() -> None:
    image = np.ones((1, 6, 3), dtype=np.uint8)
    black_out(image, np.array([[1.6, 0, 3.2, 1]], dtype=np.float32), np.zeros((0, 4), dtype=np.float32))
    assert image[0, :, 0].tolist() == [1, 0, 0, 0, 1, 1]
