from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mrqm.data.images.resizing import Size
from mrqm.data.images.windows import drop_empty, scored_record, tile_items, whole_items
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.ground_truth import make_ground_truth
from mrqm.structures.window import Window


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


def test_a_whole_image_is_scored_as_annotated_however_it_is_resized() -> None:
    odd = record((100, 200), [(-10, 20, 30, 40), (50, 50, 50, 60), (190, 90, 230, 140)])
    for item in (*whole_items([odd], half), *tile_items([odd], native, 300, 0)):
        assert scored_record(item, 7, 0.4) is odd


def test_a_window_is_scored_in_native_px_with_visible_shares_of_annotated_areas() -> None:
    image = record((100, 200), [(10, 20, 26, 36), (90, 20, 110, 40), (98, 60, 118, 80)])
    image = replace(image, truth=replace(image.truth, areas=np.array([99.0, 400, 300])))
    for resize in (native, half, lambda size: (size[0] * 2, size[1] * 2)):
        side = resize((100, 200))[0]
        item = tile_items([image], resize, side, 0)[0]  # the left half
        tile = scored_record(item, 7, 0.4)
        assert (tile.image_id, tile.size) == (7, (100, 100))
        np.testing.assert_allclose(tile.truth.boxes_xywh, [[10, 20, 16, 16], [90, 20, 10, 20], [98, 60, 2, 20]])
        assert tile.truth.areas.tolist() == [99, 200, 30]
        assert tile.truth.is_object.tolist() == [True, True, False]  # a tenth is a fragment, which costs nothing


def test_integer_boxes_of_a_window_stay_integers() -> None:
    image = record((97, 211), [(3 * i, 2 * i, 3 * i + 7, 2 * i + 5) for i in range(1, 30)])
    for item in tile_items([image], native, 60, 13):
        boxes = scored_record(item, 0, 0.0).truth.boxes_xywh
        np.testing.assert_array_equal(boxes, boxes.round())
