"""Stitching of objects cut by windows, by hand-made boxes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mrqm.data.images.tiling import grid
from mrqm.inference.tile_merging import merge
from mrqm.inference.tile_stitching import drop_fragments, join_views
from mrqm.structures.detections import DetectionTensors, WindowDetections
from mrqm.structures.window import Window

from ...detections import LEFT, RIGHT, found


def boxes_of(part: WindowDetections) -> list[list[float]]:
    return part.detections["boxes"].tolist()  # type: ignore[no-any-return]


def through(box: Sequence[float], image_size: tuple[int, int]) -> list[WindowDetections]:
    """Clip an object to every window of 100 px that shows any of it."""
    parts = []
    for window in grid(image_size, 100, 30):
        left, top, right, bottom = window.left, window.top, window.left + 100, window.top + 100
        seen = [max(box[0], left), max(box[1], top), min(box[2], right), min(box[3], bottom)]
        parts.append(WindowDetections(window, found(seen) if seen[0] < seen[2] and seen[1] < seen[3] else found()))
    return parts


def test_a_fragment_goes_when_another_window_shows_the_whole() -> None:
    # 80..120 across: cut at 100 from the left, whole from the right; IoU 0.5 of 20 × 20 and 40 × 20 px, and 0.25.
    for left in (80, 90):
        parts = [
            WindowDetections(LEFT, found([left, 40, 100, 60], scores=[0.95])),
            WindowDetections(RIGHT, found([left, 40, left + 40, 60], scores=[0.8])),
        ]
        assert [boxes_of(part) for part in drop_fragments(parts)] == [[], [[left, 40, left + 40, 60]]]


@pytest.mark.parametrize(
    ("fragment", "whole", "why"),
    [
        (found([80, 40, 96, 60]), found([80, 40, 120, 60]), "it does not end at the border"),
        (found([80, 40, 100, 60]), found([80, 40, 120, 60], labels=[1]), "it is of another class"),
        (found([80, 40, 100, 60]), found([80, 40, 120, 60], scores=[0.1]), "nothing sure is there"),
        (found([92, 40, 100, 48]), found([75, 10, 120, 90]), "it is a small object before a large one"),
        (found([10, 40, 100, 60]), found([70, 40, 110, 60]), "it shows more of the object"),
    ],
)
def test_what_is_no_fragment_stays(fragment: DetectionTensors, whole: DetectionTensors, why: str) -> None:
    left, _ = drop_fragments([WindowDetections(LEFT, fragment), WindowDetections(RIGHT, whole)])
    assert boxes_of(left) == fragment["boxes"].tolist(), why


def test_the_images_own_border_cuts_nothing() -> None:
    # The same boxes, but the image ends where the left window does.
    parts = [
        WindowDetections(LEFT, found([80, 40, 100, 60])),
        WindowDetections(Window(70, 0, 30, 100), found([80, 38, 100, 62])),
    ]
    assert [len(boxes_of(part)) for part in drop_fragments(parts)] == [1, 1]


def test_of_two_fragments_of_one_object_exactly_the_larger_is_kept() -> None:
    parts = [WindowDetections(LEFT, found([60, 40, 100, 60])), WindowDetections(RIGHT, found([70, 40, 112, 60]))]
    assert [len(boxes_of(part)) for part in drop_fragments(parts)] == [0, 1]
    # A better score does not save the smaller one.
    parts = [
        WindowDetections(LEFT, found([58, 40, 100, 60], scores=[0.6])),
        WindowDetections(RIGHT, found([70, 40, 110, 60])),
    ]
    assert [len(boxes_of(part)) for part in drop_fragments(parts)] == [1, 0]


@pytest.mark.parametrize(
    "box",
    [
        (30, 40, 140, 60),  # over two windows
        (40, 30, 60, 140),  # one below the other
        (30, 40, 230, 60),  # over three
        (10, 20, 220, 230),  # over nine, which none shows whole and one shows nothing of the border of
        (50, 60, 130, 120),  # the upper windows show less of it than the lower ones
    ],
)
def test_an_object_larger_than_the_overlap_is_whole_again(box: Sequence[float]) -> None:
    assert merge(through(box, (240, 240)))["boxes"].tolist() == [list(box)]


def test_what_is_joined_has_the_best_score_and_stands_for_a_window_around_both() -> None:
    parts = [
        WindowDetections(LEFT, found([30, 40, 100, 60], [5, 5, 9, 9])),
        WindowDetections(RIGHT, found([70, 41, 110, 60], scores=[0.5])),
    ]
    left, right, joined = join_views(parts)
    assert (boxes_of(left), boxes_of(right)) == ([[5, 5, 9, 9]], [])
    assert joined.window == Window(0, 0, 170, 100)
    assert boxes_of(joined) == [[30, 40, 110, 60]]
    assert joined.detections["scores"].tolist() == pytest.approx([0.9])


@pytest.mark.parametrize(
    ("left", "right", "why"),
    [
        (found([30, 40, 90, 60]), found([70, 40, 120, 60]), "the first ends before the border"),
        (found([30, 40, 100, 60]), found([80, 40, 120, 60]), "the second begins after the border"),
        (found([75, 40, 100, 60]), found([70, 40, 120, 60]), "the first begins in the strip"),
        (found([30, 40, 100, 60]), found([70, 40, 98, 60]), "the second ends in the strip"),
        (found([30, 40, 100, 60]), found([70, 40, 120, 60], labels=[1]), "they are of two classes"),
        (found([30, 40, 100, 60]), found([70, 40, 120, 60], scores=[0.3]), "the second is noise beside the first"),
        (found([30, 40, 100, 60]), found([70, 54, 120, 74]), "they do not look alike in the strip"),
    ],
)
def test_what_are_no_views_of_one_object_stays_apart(left: DetectionTensors, right: DetectionTensors, why: str) -> None:
    parts = join_views([WindowDetections(LEFT, left), WindowDetections(RIGHT, right)])
    assert [boxes_of(part) for part in parts] == [left["boxes"].tolist(), right["boxes"].tolist()], why


def test_neighbours_in_a_crowd_do_not_become_chains() -> None:
    """Five long lorries side by side, each overlapping the next by most of its width."""
    lorries = [[20.0, 10.0 + 6 * lane, 150.0, 30.0 + 6 * lane] for lane in range(5)]
    parts = [
        WindowDetections(LEFT, found(*([x0, y0, 100, y1] for x0, y0, _, y1 in lorries))),
        WindowDetections(RIGHT, found(*([70, y0, x1, y1] for _, y0, x1, y1 in lorries))),
    ]
    assert sorted(merge(parts)["boxes"].tolist()) == lorries
