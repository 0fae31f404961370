"""Reference implementation of the benchmarks' rules, by plain loops over dictionaries without the project's code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Image = tuple[list[dict[str, Any]], list[dict[str, Any]]]
Box = Sequence[float]
THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]


def overlap(found: Box, box: Box, inside: bool = False) -> float:
    """Compute IoU, or the fraction of the detection that lies inside the box."""
    width = min(found[0] + found[2], box[0] + box[2]) - max(found[0], box[0])
    height = min(found[1] + found[3], box[1] + box[3]) - max(found[1], box[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared, area = width * height, found[2] * found[3]
    return shared / (area if inside else area + box[2] * box[3] - shared)


def match(objects: list[dict[str, Any]], detections: list[dict[str, Any]], threshold: float) -> list[dict | None]:
    """Match detections to objects; objects have `passed_over`, those without it come first."""
    objects = sorted(objects, key=lambda o: o["passed_over"])
    taken: set[int] = set()
    result: list[dict | None] = []
    for detection in detections:
        best, chosen = threshold, None
        for index, candidate in enumerate(objects):
            if index in taken and not candidate["crowd"]:
                continue
            if chosen is not None and not objects[chosen]["passed_over"] and candidate["passed_over"]:
                break
            value = overlap(detection["box"], candidate["box"], candidate["crowd"])
            if value >= best:
                best, chosen = value, index
        if chosen is not None:
            taken.add(chosen)
        result.append(None if chosen is None else objects[chosen])
    return result


def outcomes(
    images: Sequence[Image], label: int, area: tuple[float, float], limit: int, threshold: float
) -> tuple[list[tuple[float, bool]], int]:
    """List (score, is right) of the detections that count, best first, with the number of objects."""
    rows, objects_to_find = [], 0
    for truth, found in images:
        objects = [
            {**o, "passed_over": o["ignore"] or o["crowd"] or not area[0] <= o["area"] <= area[1]}
            for o in truth
            if o["label"] == label
        ]
        best = sorted((d for d in found if d["label"] == label), key=lambda d: -d["score"])[:limit]
        objects_to_find += sum(not o["passed_over"] for o in objects)
        for detection, matched in zip(best, match(objects, best, threshold), strict=True):
            outside = not area[0] <= detection["box"][2] * detection["box"][3] <= area[1]
            if matched["passed_over"] if matched else outside:
                continue
            rows.append((detection["score"], matched is not None))
    return sorted(rows, key=lambda row: -row[0]), objects_to_find


def precisions(rows: Sequence[tuple[float, bool]], objects: int) -> tuple[list[float], list[float]]:
    """List recall and the highest precision at that recall or above, after each detection."""
    right, recalls, raw = 0, [], []
    for number, (_, is_right) in enumerate(rows, start=1):
        right += is_right
        recalls.append(right / objects)
        raw.append(right / number)
    return recalls, [max(raw[index:]) for index in range(len(raw))]


def coco_style(
    images: Sequence[Image], labels: int, area: tuple[float, float], limit: int, thresholds: Sequence[float] = ()
) -> tuple[float | None, float | None]:
    """Compute AP over 101 recall points and AR, averaged over thresholds and the classes that have objects."""
    aps, recalls_at_end = [], []
    for label in range(labels):
        for threshold in thresholds or THRESHOLDS:
            rows, objects = outcomes(images, label, area, limit, threshold)
            if not objects:
                continue
            recalls, envelope = precisions(rows, objects)
            curve = list(zip(recalls, envelope, strict=True))
            aps.append(sum(next((p for r, p in curve if r >= i / 100 - 1e-12), 0.0) for i in range(101)) / 101)
            recalls_at_end.append(recalls[-1] if recalls else 0.0)
    return (sum(aps) / len(aps), sum(recalls_at_end) / len(aps)) if aps else (None, None)


def mark(regions: Sequence[Box], height: int, width: int) -> np.ndarray:
    """Mark (height + 1, width + 1) px of ignored regions, counted from 1, both ends inclusive, as the toolkit does."""
    marked = np.zeros((height + 1, width + 1), dtype=bool)
    for box in regions:
        left, top, wide, high = (max(1, int(value)) for value in box)
        marked[top : top + high + 1, left : left + wide + 1] = True
    return marked


def in_regions(box: Box, marked: np.ndarray) -> bool:
    """Tell whether half of a box is covered by marked px."""
    height, width = (side - 1 for side in marked.shape)
    x, y, w, h = (max(1, int(value + 0.5) if value > 0 else 0) for value in box)
    x, y = min(x, width), min(y, height)
    return marked[y + 1 : y + h + 1, x + 1 : x + w + 1].sum() / (w * h) >= 0.5


def visdrone(images: Sequence[Image], labels: int, sizes: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Compute AP, AP50, AP75 and AR@k as the toolkit prints them; regions are objects with label -1, others -2."""
    kept = []
    for (truth, found), size in zip(images, sizes, strict=True):
        marked = mark([o["box"] for o in truth if o["label"] == -1], *size)
        objects = [o for o in truth if o["label"] >= 0 and not in_regions(o["box"], marked)]
        kept.append((objects, [d for d in found if not in_regions(d["box"], marked)]))
    aps, recalls, weights = [], [], []
    for label in range(labels):
        weights.append(sum(any(o["label"] == label for o in truth) for truth, _ in kept))
        aps.append([_visdrone_class(kept, label, 500, threshold)[0] for threshold in THRESHOLDS])
        recalls.append(
            {k: sum(_visdrone_class(kept, label, k, t)[1] for t in THRESHOLDS) / 10 for k in (1, 10, 100, 500)}
        )

    def mean(values: Sequence[float]) -> float:
        if not sum(weights):
            return math.nan
        return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)

    figures = {"AP": mean([sum(ap) / 10 for ap in aps]), "AP50": mean([ap[0] for ap in aps])}
    figures |= {"AP75": mean([ap[5] for ap in aps])}
    return figures | {f"AR@{k}": mean([recall[k] for recall in recalls]) for k in (1, 10, 100, 500)}


def _visdrone_class(images: Sequence[Image], label: int, limit: int, threshold: float) -> tuple[float, float]:
    rows, objects = [], 0
    for truth, found in images:
        here = [{**o, "passed_over": o["ignore"], "crowd": o["ignore"]} for o in truth if o["label"] == label]
        objects += len(here)  # ignored ones too
        best = [d for d in found[:limit] if d["label"] == label]
        for detection, matched in zip(best, match(here, best, threshold), strict=True):
            if matched is None or not matched["passed_over"]:
                rows.append((detection["score"], matched is not None))
    rows.sort(key=lambda row: -row[0])
    recalls, envelope = precisions(rows, max(1, objects))
    steps = zip([0.0, *recalls], recalls, envelope, strict=False)
    return sum((after - before) * precision for before, after, precision in steps), recalls[-1] if recalls else 0.0
