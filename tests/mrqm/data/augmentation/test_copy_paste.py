from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from mrqm.data.augmentation import copy_paste as module
from mrqm.data.augmentation.copy_paste import CopyPaste, Patch, paste
from mrqm.data.augmentation.object_index import ObjectIndex

from .memory_images import MemoryImages
from .references import make_canvas, mask_of, random_boxes

RNG = np.random.default_rng
SIZE = (80, 100)


def make_patch(size: tuple[int, int] = (12, 14), margin: int = 2, label: int = 7, value: int = 255) -> Patch:
    pixels = torch.full((3, *size), value, dtype=torch.uint8)
    return Patch(pixels, np.array([margin, margin, size[1] - margin, size[0] - margin], np.float32), label)


def copy_paste(images: MemoryImages, **changes: Any) -> CopyPaste:
    settings: dict[str, Any] = {
        "probability": 1, "max_objects": 3, "scale_jitter": (1, 1), "max_overlap": 0.1, "mirrored": 0, "seed": 0,
    }  # fmt: skip
    return CopyPaste(ObjectIndex(images.items, 1.0, 0.0, 0.1), **settings | changes)


def two_classes() -> MemoryImages:
    images = MemoryImages(SIZE)
    for _ in range(3):
        images.add([(10, 10, 18, 18), (40, 10, 50, 20), (70, 50, 78, 58)], [0, 0, 0])
    images.add([(30, 30, 44, 42)], [1])
    return images


@pytest.mark.parametrize("max_overlap", [0.0, 0.3, 1.0])
def test_hidden_areas_are_those_of_the_pixels_that_patches_cover(max_overlap: float) -> None:
    """Patches are white on black, so that the image itself is the mask of what they cover."""
    for seed in range(20):
        boxes = random_boxes(SIZE, 9, RNG(seed))
        canvas = make_canvas(SIZE, boxes[:6].tolist(), boxes[6:].tolist())
        canvas.pixels.zero_()
        patches = [make_patch((9 + number, 12), margin=0) for number in range(4)]
        pasted = paste(canvas, patches, max_overlap, RNG(seed))
        covered = pasted.pixels[0].numpy() == 255
        assert not canvas.pixels.any(), "the canvas is not written to"
        hidden = [(mask_of(box, SIZE) & covered).sum() for box in boxes]
        assert pasted.boxes.hidden[:9].tolist() == hidden
        added = pasted.boxes.xyxy[9:]
        assert sum(mask_of(box, SIZE).sum() for box in added) == covered.sum(), "patches do not touch one another"
        assert all(covered[mask_of(box, SIZE)].all() for box in added)
        assert pasted.boxes.hidden[9:].tolist() == [0] * len(added)
        for box in boxes:
            for patch in added:
                common, least = mask_of(box, SIZE) & mask_of(patch, SIZE), min(mask_of(box, SIZE).sum(), 12 * 9)
                assert common.sum() <= max_overlap * max(least, mask_of(patch, SIZE).sum())


def test_covered_objects_become_ignored_and_hidden_ones_are_dropped() -> None:
    canvas = make_canvas((20, 20), [(0, 0, 20, 10), (5, 12, 9, 16)], [(4, 11, 12, 18)])
    pasted = paste(canvas, [make_patch((20, 12), margin=0)], 1.0, RNG(0))
    left, _, right, _ = pasted.boxes.xyxy[-1].tolist()
    visible = [1 - 12 / 20, 1 - len(set(range(5, 9)) & set(range(int(left), int(right)))) / 4]
    target = pasted.target(0.5)
    assert target["labels"].tolist() == [label for label in (0, 1) if visible[label] > 0.5] + [7]
    ignored = [label for label in (0, 1) if 0 < visible[label] <= 0.5]
    assert target["ignore_labels"].tolist() == [*ignored, -1], "a pasted object does not end an ignored region"


def test_patches_keep_away_from_ignored_regions_and_objects() -> None:
    canvas = make_canvas(SIZE, [(0, 0, 50, 40)], [(50, 0, 100, 40)])
    tops = [paste(canvas, [make_patch()], 0.0, RNG(seed)).boxes.xyxy[2:, 1].tolist() for seed in range(40)]
    assert sum(map(len, tops)) > 30
    assert all(top >= 40 + 2 for found in tops for top in found)


def test_patches_without_a_place_are_left_out() -> None:
    full = make_canvas((30, 30), [(0, 0, 30, 30)])
    assert len(paste(full, [make_patch()], 0.1, RNG(0)).boxes) == 1
    assert len(paste(make_canvas((10, 30)), [make_patch()], 0.1, RNG(0)).boxes) == 0


def test_edges_are_soft_and_objects_opaque() -> None:
    canvas = make_canvas((40, 40))
    canvas.pixels.zero_()
    pasted = paste(canvas, [make_patch((20, 20), margin=4)], 0.1, RNG(0))
    left, top, right, bottom = (int(value) for value in pasted.boxes.xyxy[0])
    assert (pasted.pixels[:, top:bottom, left:right] == 255).all()
    row = pasted.pixels[0, top + 5, left - 4 : left + 1].int()
    assert (row.diff() > 0).all()
    assert 20 < row[0] < 90
    np.testing.assert_array_equal(pasted.pixels[0].flip(0, 1)[40 - bottom : 40 - top, 40 - right : 40 - left], 255)


def test_copies_are_the_pixels_of_their_object() -> None:
    images = MemoryImages(SIZE)
    images.add([(30, 30, 44, 42)], [1])
    canvas = make_canvas(SIZE)
    for seed in range(10):
        copied = copy_paste(images, max_objects=1).apply(images, canvas, 0, RNG(seed))
        left, top, right, bottom = (int(value) for value in copied.boxes.xyxy[0])
        np.testing.assert_array_equal(copied.pixels[:, top:bottom, left:right], images.pixels[0][:, 30:42, 30:44])
        assert copied.boxes.labels.tolist() == [1]


def test_mirrored_copies_have_mirrored_boxes() -> None:
    images = MemoryImages(SIZE)
    images.add([(0, 30, 14, 42)], [1])  # at the border: a margin on the right only
    copied = copy_paste(images, max_objects=1, mirrored=1.0).apply(images, make_canvas(SIZE), 0, RNG(0))
    left, top, right, bottom = (int(value) for value in copied.boxes.xyxy[0])
    np.testing.assert_array_equal(copied.pixels[:, top:bottom, left:right], images.pixels[0][:, 30:42, 13::-1])


def test_copies_are_zoomed_within_their_range() -> None:
    images = MemoryImages(SIZE)
    images.add([(30, 30, 50, 50)], [1])
    paster = copy_paste(images, max_objects=1, scale_jitter=(0.5, 1.5))
    widths = []
    for seed in range(100):
        boxes = paster.apply(images, make_canvas(SIZE), 0, RNG(seed)).boxes
        sides = boxes.xyxy[0, 2:] - boxes.xyxy[0, :2]
        assert abs(sides[0] - sides[1]) < 0.01
        widths.append(sides[0])
    assert 9 < min(widths) < 12
    assert 25 < max(widths) < 31


def test_pasted_classes_have_the_histogram_asked_for() -> None:
    images = two_classes()
    paster, counts = copy_paste(images), Counter[int]()
    for seed in range(400):
        counts.update(paster.apply(images, make_canvas(SIZE), seed // 100, RNG(seed)).boxes.labels.tolist())
    assert sum(counts.values()) == pytest.approx(400 * 2, rel=0.1)
    assert counts[1] / sum(counts.values()) == pytest.approx(0.5, abs=0.05), "9 objects of one class, 1 of the other"


def test_objects_of_an_epoch_are_bounded_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    images, read = two_classes(), set()
    take = images.cut
    monkeypatch.setattr(images, "cut", lambda index, view: read.add((index, view.window)) or take(index, view))
    monkeypatch.setattr(module, "BANK_MB", 1000 / 2**20)  # one or two objects with their margins
    paster = copy_paste(images)
    for seed in range(50):
        paster.apply(images, make_canvas(SIZE), 0, RNG(seed))
    assert 1 <= len(read) <= 2
    for seed in range(50):
        paster.apply(images, make_canvas(SIZE), 1 + seed % 10, RNG(seed))
    assert len(read) > 3, "other epochs have other objects"


def test_copies_come_as_often_as_asked() -> None:
    images, canvas = two_classes(), make_canvas(SIZE)
    paster = copy_paste(images, probability=0.3)
    changed = [paster.apply(images, canvas, 0, RNG(seed)) is not canvas for seed in range(300)]
    assert 0.22 < np.mean(changed) < 0.38


def test_images_that_do_not_decode_give_no_copies() -> None:
    images = two_classes()
    images.unreadable = (0, 1, 2)
    paster = copy_paste(images)
    labels = [
        label for seed in range(30) for label in paster.apply(images, make_canvas(SIZE), 0, RNG(seed)).boxes.labels
    ]
    assert set(labels) == {1}


def test_what_was_pasted_before_changes_nothing() -> None:
    images, canvas = two_classes(), make_canvas(SIZE)
    used, fresh = copy_paste(images), copy_paste(images)
    for epoch, seed in [(0, 5), (1, 2), (0, 9)]:
        used.apply(images, canvas, epoch, RNG(seed))
    one, other = (paster.apply(images, canvas, 1, RNG(7)) for paster in (used, fresh))
    assert torch.equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.boxes.xyxy, other.boxes.xyxy)
