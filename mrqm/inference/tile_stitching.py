"""Objects cut by windows: views of one object are joined, remaining fragments are dropped.

Legend: n detections of one window, m of another or of several.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torchvision.ops import box_iou

from mrqm.structures.detections import DetectionTensors, WindowDetections
from mrqm.structures.window import Window

BORDER = 2.0
"""Greatest distance in px between a window's border and a detection that may be cut off there."""
TRUSTED = 0.5
"""Least ratio of scores at which a detection replaces a fragment or continues a view, so that low-scored noise does not
change certain detections.
"""


def join_views(found: Sequence[WindowDetections], iou: float = 0.5) -> list[WindowDetections]:
    """Join the detections of an object that is larger than the overlap of its windows.

    Two windows of one row share a strip. A detection of the left one that fills the strip from side to side and
    continues to its left, and one of the right one that fills it and continues to its right, are views of one object if
    they are of one class and their parts of the strip overlap by at least `iou`, more than with any other; columns
    likewise. Because both fill the strip, neighbours in a crowd are not chained, as they would be if any overlap were
    enough.

    Args:
        found: detections of each window.
        iou: least IoU of two views' intervals across the strip.

    Returns:
        `found` without such views, followed by the joined ones, by the rectangle around the windows of their views,
        which stands for a window that contains the whole object.
    """
    starts = np.cumsum([0, *(len(part.detections["scores"]) for part in found)])
    links = [
        _views_through(found[before], found[after], along, iou) + np.array([[starts[before]], [starts[after]]])
        for along in (0, 1)
        for before, after in _neighbours([window for window, _ in found], along)
    ]
    if not any(pairs.size for pairs in links):
        return list(found)
    first, second = np.concatenate(links, axis=1)
    links_of_all = coo_array((np.ones(len(first)), (first, second)), shape=(starts[-1], starts[-1]))
    _, groups = connected_components(links_of_all, directed=False)
    joined = np.zeros(starts[-1], dtype=bool)
    joined[first] = joined[second] = True
    left = [
        WindowDetections(window, _take(detections, ~joined[begin:end]))
        for (window, detections), begin, end in zip(found, starts[:-1], starts[1:], strict=True)
    ]
    return [*left, *_join_groups(found, groups, joined)]


def drop_fragments(found: Sequence[WindowDetections], iou: float = 0.5) -> list[WindowDetections]:
    """Drop detections that a window cuts off and a neighbouring window shows more of.

    A detection that ends at a border of its window inside the image is a fragment if a larger detection of its class
    from another window continues beyond that border and, clipped to the fragment's window, overlaps the fragment by at
    least `iou`. SAHI compares the intersection with the smaller area instead, which would also drop a small object at
    the border in front of a large one.

    Args:
        found: detections of each window.
        iou: least IoU of a fragment and the clipped larger detection.

    Returns:
        The remaining detections of each window, in the order of `found`.
    """
    corners = _corners([window for window, _ in found])
    kept = []
    for index, (window, detections) in enumerate(found):
        apart = (corners[:, :2] >= corners[index, 2:]).any(1) | (corners[:, 2:] <= corners[index, :2]).any(1)
        others = [found[other].detections for other in np.flatnonzero(~apart).tolist() if other != index]
        if others:
            frame = torch.from_numpy(corners[index])
            detections = _take(detections, ~_is_fragment(detections, others, frame, iou).numpy())
        kept.append(WindowDetections(window, detections))
    return kept


def _neighbours(windows: Sequence[Window], along: int) -> Iterator[tuple[int, int]]:
    """Yield pairs of windows of one row (0) or column (1) that share a strip, in order; an image may have thousands."""
    lines: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, window in enumerate(windows):
        lines[window[1 - along :: 2]].append(index)
    for line in lines.values():
        line.sort(key=lambda index: windows[index][along])
        for position, before in enumerate(line):
            end = windows[before].corners[2 + along]
            for after in islice(line, position + 1, None):
                if windows[after][along] >= end:
                    break
                yield before, after


def _views_through(before: WindowDetections, after: WindowDetections, along: int, iou: float) -> NDArray[np.int64]:
    """Find the (2, k) detections of a window and of its neighbour that continue each other through the shared strip."""
    begin, end = after.window[along], before.window.corners[2 + along]
    low, high = (before.detections["boxes"][:, side] for side in (along, 2 + along))
    mine = np.flatnonzero((low < begin) & (high >= end - BORDER))
    low, high = (after.detections["boxes"][:, side] for side in (along, 2 + along))
    theirs = np.flatnonzero((low <= begin + BORDER) & (high > end))
    if not len(mine) or not len(theirs):
        return np.empty((2, 0), dtype=np.int64)
    a, b = _take(before.detections, mine), _take(after.detections, theirs)
    overlap = _interval_iou(a["boxes"][:, 1 - along :: 2], b["boxes"][:, 1 - along :: 2])  # (n, m)
    ratio = a["scores"][:, None] / b["scores"]
    possible = (a["labels"][:, None] == b["labels"]) & (ratio >= TRUSTED) & (ratio <= 1 / TRUSTED) & (overlap >= iou)
    overlap = torch.where(possible, overlap, 0)
    best = possible & (overlap == overlap.amax(1, keepdim=True)) & (overlap == overlap.amax(0))
    first, second = best.nonzero().T.numpy()
    return np.stack([mine[first], theirs[second]])


def _join_groups(
    found: Sequence[WindowDetections], groups: NDArray[np.int64], joined: NDArray[np.bool_]
) -> list[WindowDetections]:
    """Join each group of views into the box around them, with the best score, by the rectangle around their windows."""
    corners = np.concatenate([_corners([w]).repeat(len(d["scores"]), 0) for w, d in found])
    together = {name: torch.cat([part.detections[name] for part in found]) for name in found[0].detections}
    by_window: dict[Window, list[DetectionTensors]] = defaultdict(list)
    for group in np.unique(groups[joined]):
        members = np.flatnonzero(groups == group)
        views = _take(together, members)
        best = {name: values[views["scores"].argmax(), None] for name, values in views.items()}
        best["boxes"] = _around(views["boxes"])
        left, top, right, bottom = _around(torch.from_numpy(corners[members]))[0].long().tolist()
        by_window[Window(left, top, right - left, bottom - top)].append(best)
    return [
        WindowDetections(window, {name: torch.cat([part[name] for part in parts]) for name in parts[0]})
        for window, parts in by_window.items()
    ]


def _is_fragment(detections: DetectionTensors, others: Sequence[DetectionTensors], frame: Tensor, iou: float) -> Tensor:
    """Mark the detections of a window with corners `frame` (4,) that are fragments of the others, (n,) bool."""
    outside = torch.tensor([-1.0, -1.0, 1.0, 1.0])  # the direction in which each side leaves the window
    cut = (frame - detections["boxes"]) * outside <= BORDER  # (n, 4)
    candidates = {name: torch.cat([other[name] for other in others]) for name in others[0]}
    beyond = (candidates["boxes"] - frame) * outside > 0  # (m, 4), never at a border of the image
    clipped = torch.minimum(torch.maximum(candidates["boxes"], frame[:2].repeat(2)), frame[2:].repeat(2))
    which, across = cut.any(1), beyond.any(1) & (clipped[:, 2:] > clipped[:, :2]).all(1)
    mine, theirs = {k: v[which] for k, v in detections.items()}, {k: v[across] for k, v in candidates.items()}
    replaced = (cut[which].float() @ beyond[across].float().T) > 0  # (a, b), beyond a border where the first ends
    replaced &= mine["labels"][:, None] == theirs["labels"]
    replaced &= _areas(mine["boxes"])[:, None] < _areas(theirs["boxes"])
    replaced &= theirs["scores"] >= TRUSTED * mine["scores"][:, None]
    replaced &= box_iou(mine["boxes"], clipped[across]) >= iou
    fragment = torch.zeros_like(which)
    fragment[which] = replaced.any(1)
    return fragment


def _take(detections: DetectionTensors, which: NDArray[np.bool_] | NDArray[np.int64]) -> DetectionTensors:
    return {name: values[torch.from_numpy(which)] for name, values in detections.items()}


def _corners(windows: Sequence[Window]) -> NDArray[np.float32]:
    """Stack the corners of windows, (W, 4) xyxy."""
    return np.array([window.corners for window in windows], dtype=np.float32)


def _around(boxes: Tensor) -> Tensor:
    """Return the box around boxes, (1, 4)."""
    return torch.cat([boxes[:, :2].amin(0), boxes[:, 2:].amax(0)])[None]


def _interval_iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute the IoU (n, m) of intervals (n, 2) and (m, 2)."""
    low, high = torch.maximum(a[:, None, 0], b[:, 0]), torch.minimum(a[:, None, 1], b[:, 1])
    shared = (high - low).clamp(min=0)
    return shared / ((a[:, 1] - a[:, 0])[:, None] + (b[:, 1] - b[:, 0]) - shared)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)
