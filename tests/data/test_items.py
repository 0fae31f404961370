from __future__ import annotations

from pathlib import Path

import numpy as np

from mrqm.data.ground_truth import make_ground_truth
from mrqm.data.items import drop_empty, tile_items, whole_items
from mrqm.data.records import ImageRecord
from mrqm.data.resizing import Size
from mrqm.data.tiling import Window


def record(size: tuple[int, int], boxes: list[tuple[int, ...]]) -> ImageRecord:
    xywh = np.array([(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes], dtype=np.float64).reshape(-1, 4)
    return ImageRecord(Path("a.png"), 0, size, make_ground_truth(xywh, np.zeros(len(xywh), np.int64)))


def native(size: Size) -> Size:
    return size


def half(size: Size) -> Size:
    return size[0] // 2, size[1] // 2


def test_whole_images_are_resized() -> None:
    (item,) = whole_items([record((765, 1361), [])], half)
    assert item.size == (382, 680)
    assert item.window == Window(0, 0, 680, 382)


def test_tiles_lie_on_the_resized_image() -> None:
    items = tile_items([record((400, 640), [])], half, 160, 40)
    assert {item.size for item in items} == {(200, 320)}
    assert [item.window for item in items] == [Window(left, top, 160, 160) for top in (0, 40) for left in (0, 120, 160)]


def test_windows_without_a_visible_object_are_dropped() -> None:
    items = tile_items([record((100, 300), [(90, 10, 130, 20)])], native, 100, 0)
    assert [item.window.left for item in drop_empty(items, 0.4, 0.0, 0)] == [100]  # 25 % visible at 0, 75 % at 100
    assert [item.window.left for item in drop_empty(items, 0.2, 0.0, 0)] == [0, 100]


def test_the_share_of_empty_windows_is_kept_by_seed() -> None:
    items = tile_items([record((1000, 4000), [(1, 1, 9, 9)])], native, 100, 0)
    kept = drop_empty(items, 0.4, 0.25, 7)
    assert 0.18 < len(kept) / len(items) < 0.32
    assert kept == drop_empty(items, 0.4, 0.25, 7)
    assert kept != drop_empty(items, 0.4, 0.25, 8)
    assert drop_empty(items, 0.4, 1.0, 7) == items
