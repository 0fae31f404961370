from __future__ import annotations

import numpy as np
import pytest
import torch

from mrqm.data.augmentation.joining import Joining, draw_quarters, lay_out, mix, part_with_object
from mrqm.data.augmentation.views import View, ViewSampler, plain_view
from mrqm.structures.window import Window

from .memory_images import MemoryImages
from .references import extent_of, make_canvas, mask_of, random_boxes

RNG = np.random.default_rng
SIZE = (50, 70)
STILL = ViewSampler(scale_jitter=(1, 1), random_crop=False, tile=None, max_side=None)


def make_images(count: int, unreadable: tuple[int, ...] = ()) -> MemoryImages:
    """Make images of four objects, whose labels tell their image, and two ignored regions each."""
    images = MemoryImages(SIZE, unreadable)
    for number in range(count):
        images.add(random_boxes(SIZE, 6, RNG(number)).tolist(), [*range(10 * number, 10 * number + 4), -1, -1])
    return images


def test_parts_of_a_mosaic_cover_it_once() -> None:
    for seed in range(50):
        covered = np.zeros(SIZE, dtype=int)
        for quarter in draw_quarters(SIZE, RNG(seed)):
            covered += mask_of(quarter.corners, SIZE)
        assert (covered == 1).all()


@pytest.mark.parametrize("size", [(1, 9), (2, 1), (1, 1)])
def test_the_smallest_images_are_divided_too(size: tuple[int, int]) -> None:
    assert sum(place.width * place.height for place in draw_quarters(size, RNG(0))) == size[0] * size[1]


def test_joined_boxes_are_the_extents_of_their_masks() -> None:
    """Every px of the mosaic comes from one part, and so do the masks of its boxes."""
    images = make_images(4)
    for seed in range(20):
        rng = RNG(seed)
        places = draw_quarters(SIZE, rng)
        views = [
            part_with_object(item, plain_view(item.window), (place.height, place.width), rng)
            for item, place in zip(images.items, places, strict=True)
        ]
        parts = [images.cut(number, view) for number, view in enumerate(views)]
        mosaic = lay_out(SIZE, places, [part for part in parts if part is not None])
        expected, pixels = [], np.zeros((3, *SIZE), np.uint8)
        for number, (place, view) in enumerate(zip(places, views, strict=True)):
            left, top, right, bottom = view.window.corners
            inner = np.s_[place.top : place.top + place.height, place.left : place.left + place.width]
            pixels[(slice(None), *inner)] = images.pixels[number][:, top:bottom, left:right]
            record = images.items[number].record
            for box, label in zip(
                np.concatenate([record.boxes, record.ignore_boxes]),
                [*record.labels, *record.ignore_labels], strict=True,
            ):  # fmt: skip
                mask = np.zeros(SIZE, dtype=bool)
                mask[inner] = mask_of(box, SIZE)[top:bottom, left:right]
                if mask.any():
                    expected.append((extent_of(mask), label, mask.sum() / mask_of(box, SIZE).sum()))
        np.testing.assert_array_equal(mosaic.pixels, pixels)
        boxes = mosaic.boxes
        assert boxes.xyxy.tolist() == [box for box, _, _ in expected]
        assert boxes.labels.tolist() == [label for _, label, _ in expected]
        np.testing.assert_allclose(boxes.areas / boxes.whole, [share for *_, share in expected])


def test_objects_cut_by_the_parts_of_a_mosaic_become_ignored_regions_as_in_tiles() -> None:
    images, joining = make_images(5), Joining(STILL, mosaic=1)
    ignored = 0
    for seed in range(30):
        mosaic = joining.take(images, 0, 0, plain_view(images.items[0].window), RNG(seed))
        assert mosaic is not None
        target = mosaic.target(0.4)
        share = mosaic.boxes.areas / mosaic.boxes.whole
        assert target["labels"].tolist() == mosaic.boxes.labels[mosaic.boxes.annotated & (share > 0.4)].tolist()
        assert len(target["labels"]) + len(target["ignore_labels"]) == len(mosaic.boxes)
        ignored += int((target["ignore_labels"] >= 0).sum())
    assert ignored > 10


def test_a_mosaic_has_the_size_of_the_view_and_a_part_of_its_image() -> None:
    images, joining = make_images(6), Joining(STILL, mosaic=1)
    for seed in range(20):
        mosaic = joining.take(images, 0, 2, plain_view(images.items[2].window), RNG(seed))
        assert mosaic is not None
        assert mosaic.size == SIZE
        assert 2 in {label // 10 for label in mosaic.boxes.labels.tolist() if label >= 0}


def test_parts_keep_their_scale_and_show_an_object_at_any_place() -> None:
    item = make_images(1).items[0]
    starts = set()
    for seed in range(200):
        view = part_with_object(item, plain_view(item.window), (20, 25), RNG(seed))
        left, top, right, bottom = view.window.corners
        assert (right - left, bottom - top) == (25, 20) == view.size[::-1]
        assert left >= 0 and top >= 0 and right <= SIZE[1] and bottom <= SIZE[0]
        centres = (item.record.boxes[:, :2] + item.record.boxes[:, 2:]) / 2
        assert ((centres >= [left, top]) & (centres <= [right, bottom])).all(axis=1).any()
        starts.add((left, top))
    assert len(starts) > 50


def test_parts_of_zoomed_views_have_the_views_zoom() -> None:
    view = View(Window(10, 4, 40, 30), (60, 80))
    assert view.part(20, 10, (30, 50)) == View(Window(20, 9, 25, 15), (30, 50))
    assert view.part(30, 20, (40, 50)).window.corners == (25, 14, 50, 34)


def test_views_smaller_than_their_part_leave_grey() -> None:
    small = make_canvas((10, 12), [(1, 1, 5, 5)])
    joined = lay_out((20, 30), [Window(0, 0, 15, 20), Window(15, 0, 15, 20)], [small, small])
    assert joined.boxes.xyxy.tolist() == [[1, 1, 5, 5], [16, 1, 20, 5]]
    assert (joined.pixels[:, 10:] == 114).all()
    assert (joined.pixels[:, :, 27:] == 114).all()


def test_a_mixture_is_the_weighted_mean_with_the_boxes_of_both() -> None:
    first, second = make_canvas(SIZE, [(1, 2, 9, 9)], [(0, 0, 5, 5)]), make_canvas((30, 40), [(3, 3, 20, 20)], seed=1)
    mixed = mix(first, second, 0.6)
    expected = first.pixels.numpy().astype(float)
    expected[:, :30, :40] = 0.6 * expected[:, :30, :40] + 0.4 * second.pixels.numpy()
    assert abs(mixed.pixels.numpy() - expected).max() <= 0.51
    assert mixed.boxes.xyxy.tolist() == [[1, 2, 9, 9], [0, 0, 5, 5], [3, 3, 20, 20]]
    assert mixed.boxes.labels.tolist() == [0, -1, 0]


def test_joining_comes_as_often_as_asked() -> None:
    images = make_images(8)
    view = plain_view(images.items[0].window)

    def differing(joining: Joining) -> float:
        made = [joining.take(images, 0, 0, view, RNG(seed)) for seed in range(200)]
        own = torch.from_numpy(images.pixels[0])
        return float(np.mean([one is not None and not torch.equal(one.pixels, own) for one in made]))

    assert differing(Joining(STILL)) == 0
    assert 0.2 < differing(Joining(STILL, mosaic=0.3)) < 0.4
    assert 0.2 < differing(Joining(STILL, mixup=0.3)) < 0.4


def test_images_that_do_not_decode_are_not_joined() -> None:
    images, joining = make_images(4, unreadable=(1, 2)), Joining(STILL, mosaic=1, mixup=1)
    for seed in range(20):
        made = joining.take(images, 0, 0, plain_view(images.items[0].window), RNG(seed))
        assert made is not None
        assert {label // 10 for label in made.boxes.labels.tolist() if label >= 0} <= {0, 3}
    assert joining.take(images, 0, 1, plain_view(images.items[1].window), RNG(0)) is None
