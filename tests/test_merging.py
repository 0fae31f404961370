"""Merging against naive loops, against torchvision, and on objects that windows cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from mrqm.data.tiling import Window, grid
from mrqm.merging import (
    LEAST_SCORE,
    WindowDetections,
    drop_fragments,
    fuse,
    merge,
    overlapping_pairs,
    suppress,
    suppress_softly,
)

Detections = dict[str, Tensor]
METHODS = ("nms", "wbf", "soft_nms")
LEFT, RIGHT = Window(0, 0, 100, 100), Window(70, 0, 100, 100)  # of an image of 170 × 100 px


def found(
    *boxes: Sequence[float], scores: Sequence[float] | None = None, labels: Sequence[int] | None = None
) -> Detections:
    count = len(boxes)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor([0.9] * count if scores is None else scores),
        "labels": torch.tensor([0] * count if labels is None else labels, dtype=torch.int64),
    }


def crowd(seed: int, count: int = 120, classes: int = 2, side: float = 60) -> Detections:
    """Boxes in clusters, by falling score."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, side, (count // 4, 2)).repeat(4, 0) + rng.normal(0, 1.5, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 14, (count, 2))], 1)
    scores = -np.sort(-rng.uniform(0.01, 1, count))
    return {
        "boxes": torch.tensor(boxes[rng.permutation(count)], dtype=torch.float32),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "labels": torch.tensor(rng.integers(0, classes, count)),
    }


def rows(detections: Detections) -> list[list[float]]:
    return torch.cat([detections["boxes"], detections["scores"][:, None], detections["labels"][:, None]], 1).tolist()


def same_class_iou(detections: Detections) -> Tensor:
    overlap = box_iou(detections["boxes"].double(), detections["boxes"].double())
    return overlap * (detections["labels"][:, None] == detections["labels"])


# ---------------------------------------------------------------------------------------------- references


@pytest.mark.parametrize("iou", [0.0, 0.3, 0.5])
def test_overlapping_pairs_are_those_of_the_full_matrix(iou: float) -> None:
    detections = crowd(0)
    first, second, overlap = overlapping_pairs(detections, iou)
    matrix = same_class_iou(detections).triu(1).numpy()
    expected = np.argwhere((matrix >= iou) & (matrix > 0)).tolist()
    pairs = np.stack([np.minimum(first, second), np.maximum(first, second)], 1)
    assert sorted(pairs.tolist()) == expected
    np.testing.assert_allclose(overlap, matrix[pairs[:, 0], pairs[:, 1]], rtol=1e-9)


def test_pairs_are_the_same_whatever_is_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    detections = crowd(0)
    before = {tuple(sorted(pair)) for pair in zip(*overlapping_pairs(detections, 0.2)[:2], strict=True)}
    monkeypatch.setattr("mrqm.merging._CHUNK", 7)
    assert {tuple(sorted(pair)) for pair in zip(*overlapping_pairs(detections, 0.2)[:2], strict=True)} == before


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_suppression_is_torchvisions(seed: int, iou: float) -> None:
    detections = crowd(seed)
    kept = batched_nms(detections["boxes"], detections["scores"], detections["labels"], iou)
    assert rows(suppress(detections, iou)) == rows({name: values[kept] for name, values in detections.items()})


@pytest.mark.parametrize("seed", range(5))
def test_soft_suppression_is_a_plain_loop(seed: int) -> None:
    detections = crowd(seed)
    overlap, scores = same_class_iou(detections), detections["scores"].double().clone()
    remaining = list(range(len(scores)))
    while remaining:
        best = max(remaining, key=lambda index: float(scores[index]))
        remaining.remove(best)
        for other in remaining:
            if overlap[best, other] >= 0.3:
                scores[other] *= 1 - overlap[best, other]
    merged = suppress_softly(detections, 0.3)
    expected = scores[scores >= LEAST_SCORE].sort(descending=True).values
    torch.testing.assert_close(merged["scores"], expected.float())
    assert (detections["scores"] > merged["scores"].min()).sum() > 0


@pytest.mark.parametrize("seed", range(5))
def test_fusion_is_a_plain_loop(seed: int) -> None:
    detections = crowd(seed)
    clusters: list[list[int]] = []

    def fused(cluster: list[int]) -> Tensor:
        weights = detections["scores"][cluster].double()
        return (detections["boxes"][cluster].double() * weights[:, None]).sum(0) / weights.sum()

    for index in range(len(detections["scores"])):
        rivals = [c for c in clusters if detections["labels"][c[0]] == detections["labels"][index]]
        overlap = [float(box_iou(detections["boxes"][index, None].double(), fused(c)[None])) for c in rivals]
        if overlap and max(overlap) > 0.4:
            rivals[int(np.argmax(overlap))].append(index)
        else:
            clusters.append([index])
    merged = fuse(detections, 0.4)
    torch.testing.assert_close(merged["boxes"], torch.stack([fused(c) for c in clusters]).float())
    assert merged["scores"].tolist() == [detections["scores"][c[0]] for c in clusters]
    assert merged["labels"].tolist() == [detections["labels"][c[0]] for c in clusters]


# ----------------------------------------------------------------------------------------------- fragments


def test_a_fragment_goes_when_another_window_shows_the_whole() -> None:
    # 80..120 across: cut at 100 from the left, whole from the right; IoU 0.5 of 20 × 20 and 40 × 20 px, and 0.25.
    for left in (80, 90):
        parts = [
            WindowDetections(LEFT, found([left, 40, 100, 60], scores=[0.95])),
            WindowDetections(RIGHT, found([left, 40, left + 40, 60], scores=[0.8])),
        ]
        for method in METHODS:
            merged = merge(parts, method, 0.6)  # type: ignore[arg-type]
            assert merged["boxes"].tolist() == [[left, 40, left + 40, 60]], method


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
def test_what_is_no_fragment_stays(fragment: Detections, whole: Detections, why: str) -> None:
    left, _ = drop_fragments([WindowDetections(LEFT, fragment), WindowDetections(RIGHT, whole)])
    assert rows(left) == rows(fragment), why


def test_the_images_own_border_cuts_nothing() -> None:
    # The same boxes, but the image ends where the left window does.
    parts = [
        WindowDetections(LEFT, found([80, 40, 100, 60])),
        WindowDetections(Window(70, 0, 30, 100), found([80, 38, 100, 62])),
    ]
    assert [len(part["scores"]) for part in drop_fragments(parts)] == [1, 1]


def test_of_two_fragments_of_one_object_exactly_the_larger_is_kept() -> None:
    parts = [WindowDetections(LEFT, found([60, 40, 100, 60])), WindowDetections(RIGHT, found([70, 40, 112, 60]))]
    assert [len(part["scores"]) for part in drop_fragments(parts)] == [0, 1]
    # A better score does not save the smaller one.
    parts = [
        WindowDetections(LEFT, found([58, 40, 100, 60], scores=[0.6])),
        WindowDetections(RIGHT, found([70, 40, 110, 60])),
    ]
    assert [len(part["scores"]) for part in drop_fragments(parts)] == [1, 0]


def test_of_an_object_larger_than_the_overlap_the_largest_view_is_kept() -> None:
    parts = [
        WindowDetections(LEFT, found([30, 40, 100, 60])),
        WindowDetections(RIGHT, found([70, 40, 110, 60], scores=[0.5])),
    ]
    assert merge(parts)["boxes"].tolist() == [[30, 40, 100, 60]]


# --------------------------------------------------------------------------------------------- whole images


def through_windows(objects: Tensor, labels: Tensor, image_size: tuple[int, int]) -> list[WindowDetections]:
    """What a perfect detector sees: every object clipped to every window that shows it, scored by what it shows."""
    parts = []
    for window in grid(image_size, 200, 60):
        frame = torch.tensor([window.left, window.top, window.left + window.width, window.top + window.height])
        clipped = torch.minimum(torch.maximum(objects, frame[:2].repeat(2)), frame[2:].repeat(2)).float()
        share = (clipped[:, 2:] - clipped[:, :2]).clamp(min=0).prod(1) / (objects[:, 2:] - objects[:, :2]).prod(1)
        seen = share > 0.1
        scores = 0.5 + 0.5 * share[seen] * torch.linspace(0.9, 1, len(objects))[seen]
        parts.append(WindowDetections(window, {"boxes": clipped[seen], "scores": scores, "labels": labels[seen]}))
    return parts


def scattered(image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Objects of 8 to 50 px on a grid that leaves 5 px between them, anywhere across the windows' borders."""
    rng = np.random.default_rng(0)
    boxes = []
    for top in range(0, image_size[0] - 55, 55):
        for left in range(0, image_size[1] - 55, 55):
            width, height = rng.integers(8, 51, 2)
            boxes.append([left, top, left + width, top + height])
    return torch.tensor(boxes).float(), torch.tensor(rng.integers(0, 3, len(boxes)))


@pytest.mark.parametrize("method", METHODS)
def test_perfect_detections_split_over_windows_and_merged_come_back(method: str) -> None:
    size = (500, 730)
    objects, labels = scattered(size)
    parts = through_windows(objects, labels, size)
    assert sum(len(part.detections["scores"]) for part in parts) > 1.5 * len(objects)
    merged = merge(parts, method)  # type: ignore[arg-type]
    sure = merged["scores"] > 0.3  # soft suppression leaves copies with little score
    back = sorted([*box, label] for *box, _, label in np.array(rows(merged))[sure.numpy()].round(3).tolist())
    assert back == sorted([*box, label] for box, label in zip(objects.tolist(), labels.tolist(), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_windows_does_not_matter_not_even_at_equal_scores(method: str) -> None:
    size = (500, 730)
    rng = np.random.default_rng(1)
    parts = []
    for index, window in enumerate(grid(size, 200, 60)):
        inside = crowd(index, side=180)
        inside["boxes"] += torch.tensor([window.left, window.top, window.left, window.top])
        inside["scores"] = (inside["scores"] * 5).ceil() / 5
        parts.append(WindowDetections(window, inside))
    first = merge(parts, method)  # type: ignore[arg-type]
    again = merge([parts[index] for index in rng.permutation(len(parts))], method)  # type: ignore[arg-type]
    assert rows(again) == rows(first)
    assert (first["scores"].diff() <= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_windows_without_detections_merge_to_nothing(method: str) -> None:
    merged = merge([WindowDetections(LEFT, found()), WindowDetections(RIGHT, found())], method)  # type: ignore[arg-type]
    assert merged["boxes"].shape == (0, 4)
    assert merged["labels"].dtype == torch.int64


def test_a_single_window_is_left_as_it_is() -> None:
    twice = found([10, 10, 20, 20], [10, 10, 20, 20])
    assert merge([WindowDetections(LEFT, twice)]) is twice
