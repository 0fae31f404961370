from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mrqm.data.augmentation.object_index import ObjectIndex
from mrqm.data.images.tiling import grid
from mrqm.data.images.windows import Item

from .memory_images import MemoryImages

RNG = np.random.default_rng
SIZE = (200, 200)


def index_of(images: MemoryImages, class_balance: float = 0, size_exponent: float = 0) -> ObjectIndex:
    return ObjectIndex(images.items, class_balance, size_exponent, max_overlap=0.1)


def make_images(counts: dict[int, int], side: int = 8) -> MemoryImages:
    """Make images with at most 25 objects each, far from one another, with the given number of each label."""
    images = MemoryImages(SIZE)
    labels = [label for label, count in counts.items() for _ in range(count)]
    for begin in range(0, len(labels), 25):
        part = labels[begin : begin + 25]
        corners = [(40 * (place % 5) + 10, 40 * (place // 5) + 10) for place in range(len(part))]
        images.add([(x, y, x + side, y + side) for x, y in corners], part)
    return images


@pytest.mark.parametrize(
    ("balance", "expected"),
    [(0.0, [0.75, 0.1875, 0.0625]), (1.0, [1 / 3, 1 / 3, 1 / 3]), (0.5, [0.559, 0.280, 0.161])],
)
def test_classes_are_drawn_by_the_histogram_asked_for(balance: float, expected: list[float]) -> None:
    counts = {0: 144, 1: 36, 2: 12}
    objects = index_of(make_images(counts), balance)
    drawn = Counter(one.label for one in objects.draw(6000, RNG(0)))
    np.testing.assert_allclose([drawn[label] / 6000 for label in counts], expected, atol=0.02)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_sizes_of_a_class_are_drawn_by_the_power_asked_for(exponent: float) -> None:
    images = MemoryImages(SIZE)
    sides = [4, 8, 16, 32]
    boxes = [(50 * place, 50, 50 * place + side, 50 + side) for place, side in enumerate(sides)]
    images.add([(100, 150, 120, 170), *boxes], [1, 0, 0, 0, 0])
    drawn = [one for one in index_of(images, 0.5, exponent).draw(9000, RNG(1)) if one.label == 0]
    counts, wanted = Counter(one.box[2] - one.box[0] for one in drawn), np.array(sides, float) ** -exponent
    np.testing.assert_allclose([counts[side] / len(drawn) for side in sides], wanted / wanted.sum(), atol=0.02)


def test_an_object_is_cut_with_its_margin_from_its_image() -> None:
    images = MemoryImages(SIZE)
    images.add([(50, 60, 90, 80), (0, 0, 8, 8)], [4, 5])
    large, corner = (next(one for one in index_of(images).draw(50, RNG(0)) if one.label == label) for label in (4, 5))
    assert large.window.corners == (44, 54, 96, 86), "15 % of 40 px"
    assert large.box.tolist() == [6, 6, 46, 26]
    assert corner.window.corners == (0, 0, 10, 10), "2 px, within the image"


@pytest.mark.parametrize("other", ["object", "region"])
def test_objects_beside_others_are_not_copied(other: str) -> None:
    images = MemoryImages(SIZE)
    label = 1 if other == "object" else -1
    images.add([(50, 50, 70, 70), (60, 50, 80, 70), (150, 150, 160, 160)], [0, label, 2])
    assert {one.label for one in index_of(images).draw(200, RNG(0))} == {2}


def test_ignored_regions_dots_and_large_objects_are_not_copied() -> None:
    images = MemoryImages(SIZE)
    images.add([(10, 10, 20, 20)], [-1])
    images.add([(10, 10, 11, 20)], [0])
    images.add([(10, 10, 150, 20)], [1])
    objects = index_of(images)
    assert len(objects) == 0
    assert not objects.is_usable
    assert objects.draw(5, RNG(0)) == []


def test_objects_are_listed_once_and_from_a_tile_that_shows_them_whole() -> None:
    images = make_images({0: 25}, side=20)
    item = images.items[0]
    tiles = [Item(item.record, item.size, window) for window in grid(SIZE, 110, 20)]
    objects = ObjectIndex(tiles, 0, 0, max_overlap=0.1)
    whole = 0
    for box in item.record.boxes:
        whole += any(
            (box[:2] >= tile.window.corners[:2]).all() and (box[2:] <= tile.window.corners[2:]).all() for tile in tiles
        )
    assert len(objects) == whole
    for one in objects.draw(100, RNG(0)):
        left, top, right, bottom = tiles[one.item].window.corners
        corners = one.window.corners
        assert left <= corners[0] and top <= corners[1] and corners[2] <= right and corners[3] <= bottom


def test_the_generator_alone_determines_what_is_drawn() -> None:
    first, again, other = (
        [(one.item, one.window) for one in index_of(make_images({0: 60})).draw(40, RNG(seed))] for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other
