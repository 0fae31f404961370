from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrqm.data.tiling import Window, grid, visible_share


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
