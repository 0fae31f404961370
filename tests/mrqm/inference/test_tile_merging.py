"""Merging against naive loops, against torchvision, and on whole images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from mrqm.data.formats.readers import read_annotations
from mrqm.data.images.tiling import clip_to_window, grid, visible_share
from mrqm.inference.tile_merging import LEAST_SCORE, fuse, merge, overlapping_pairs, suppress, suppress_softly
from mrqm.structures.detections import DetectionTensors, WindowDetections

from ...detections import LEFT, RIGHT, found

JOINING = ("window_nms", "nms", "wbf", "soft_nms")
METHODS = (*JOINING, "plain_nms")


def crowd(seed: int, count: int = 120, classes: int = 2, side: float = 60) -> DetectionTensors:
    """Draw boxes in clusters, by descending score."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, side, (count // 4, 2)).repeat(4, 0) + rng.normal(0, 1.5, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 14, (count, 2))], 1)
    scores = -np.sort(-rng.uniform(0.01, 1, count))
    return {
        "boxes": torch.tensor(boxes[rng.permutation(count)], dtype=torch.float32),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "labels": torch.tensor(rng.integers(0, classes, count)),
    }


def rows(detections: DetectionTensors) -> list[list[float]]:
    return torch.cat([detections["boxes"], detections["scores"][:, None], detections["labels"][:, None]], 1).tolist()


def same_class_iou(detections: DetectionTensors) -> Tensor:
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


def test_pairs_are_the_same_whatever_is_compared_together(monkeypatch: pytest.MonkeyPatch) -> None:
    detections = crowd(0)
    before = {tuple(sorted(pair)) for pair in zip(*overlapping_pairs(detections, 0.2)[:2], strict=True)}
    monkeypatch.setattr("mrqm.inference.tile_merging._CHUNK", 7)
    assert {tuple(sorted(pair)) for pair in zip(*overlapping_pairs(detections, 0.2)[:2], strict=True)} == before


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_suppression_is_torchvisions(seed: int, iou: float) -> None:
    detections = crowd(seed)
    kept = batched_nms(detections["boxes"], detections["scores"], detections["labels"], iou)
    assert rows(suppress(detections, iou)) == rows({name: values[kept] for name, values in detections.items()})


def test_what_one_window_shows_is_no_rival_of_what_it_shows_beside_it() -> None:
    """Two in a crowd, seen through both windows: neither by `window_nms`, one by `nms`, is taken for the other."""
    crowd = found([75, 40, 95, 60], [80, 40, 100, 60], scores=[0.9, 0.8])
    parts = [WindowDetections(window, crowd) for window in (LEFT, RIGHT)]
    assert merge(parts, "window_nms", 0.5)["boxes"].tolist() == crowd["boxes"].tolist()
    assert merge(parts, "nms", 0.5)["boxes"].tolist() == crowd["boxes"][:1].tolist()


@pytest.mark.parametrize("frames", [[[0, 0, 9, 9], [8, 0, 17, 9]], [[0, 0, 9, 9], [0, 0, 17, 9]]])
def test_windows_that_lie_in_one_another_are_one(frames: list[list[int]]) -> None:
    twins = found([1, 1, 9, 9], [1, 1, 9, 9])
    is_one = frames[1][0] == 0
    assert len(suppress(twins, 0.5, torch.tensor(frames))["scores"]) == (2 if is_one else 1)


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


# --------------------------------------------------------------------------------------------- whole images


def through_windows(objects: Tensor, labels: Tensor, image_size: tuple[int, int]) -> list[WindowDetections]:
    """Detect perfectly: every object clipped to every window that shows it, scored by the visible fraction."""
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
    """Draw objects of 8 to 50 px on a grid that leaves 5 px between them, anywhere across the windows' borders."""
    rng = np.random.default_rng(0)
    boxes = []
    for top in range(0, image_size[0] - 55, 55):
        for left in range(0, image_size[1] - 55, 55):
            width, height = rng.integers(8, 51, 2)
            boxes.append([left, top, left + width, top + height])
    return torch.tensor(boxes).float(), torch.tensor(rng.integers(0, 3, len(boxes)))


@pytest.mark.parametrize("method", JOINING)
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


@pytest.mark.parametrize("method", JOINING)
def test_a_single_window_is_left_as_it_is(method: str) -> None:
    twice = found([10, 10, 20, 20], [10, 10, 20, 20])
    assert merge([WindowDetections(LEFT, twice)], method) is twice  # type: ignore[arg-type]


@pytest.mark.parametrize("windows", [1, 12])
def test_plain_suppression_is_torchvisions_over_all_windows_and_nothing_else(windows: int) -> None:
    """As SODA-D's tools merge: crowds seen by one window suppress each other, fragments stay."""
    objects, labels = scattered((500, 730))
    parts = through_windows(objects, labels, (500, 730))[:windows]
    parts[0].detections.update(crowd(0, side=180))
    names = parts[0].detections.keys()
    together = {name: torch.cat([part.detections[name] for part in parts]) for name in names}
    together["scores"] += torch.rand(len(together["scores"]), generator=torch.Generator().manual_seed(0)) * 1e-3
    scores = together["scores"].split([len(part.detections["scores"]) for part in parts])
    parts = [WindowDetections(p.window, p.detections | {"scores": s}) for p, s in zip(parts, scores, strict=True)]
    kept = batched_nms(together["boxes"], together["scores"], together["labels"], 0.5)
    assert rows(merge(parts, "plain_nms", 0.5)) == rows({name: together[name][kept] for name in names})


def test_perfect_detections_of_real_objects_come_back(visdrone_mini: Path) -> None:
    """Crowds whose members overlap by more than the limit, and objects larger than the overlap, among them."""
    for record in read_annotations("visdrone", visdrone_mini / "VisDrone2019-DET-val").records:
        parts = []
        for window in grid(record.size, 640, 100):
            shown = clip_to_window(record.boxes.astype(np.float64), window)
            seen = visible_share(record.boxes, window) >= 0.25
            detections = found(*shown[seen].tolist(), labels=record.labels[seen].tolist())
            parts.append(WindowDetections(window, detections))
        merged = merge(parts, "window_nms")
        back = sorted([*box, label] for *box, _, label in rows(merged))
        assert back == sorted([*box, label] for box, label in zip(record.boxes.tolist(), record.labels, strict=True))
