"""Merging of an image's detections from overlapping windows.

Windows cause two kinds of errors. An object in the overlap is detected twice: class-wise suppression or fusion keeps
one detection. An object at a window's border is detected whole in one window and cut off in another, or whole in none:
`mrqm.inference.tile_stitching` joins or drops such parts first.

Legend: N detections of one image over all its windows, P overlapping pairs of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrqm.inference.tile_stitching import drop_fragments, join_views
from mrqm.structures.detections import DetectionTensors, WindowDetections

MergeMethod = Literal["window_nms", "nms", "wbf", "soft_nms", "plain_nms"]

LEAST_SCORE = 1e-3
"""Score below which soft suppression drops a detection."""
_CHUNK = 2**21  # candidate pairs per chunk, to bound memory


def merge(found: Sequence[WindowDetections], method: MergeMethod = "window_nms", iou: float = 0.5) -> DetectionTensors:
    """Merge the detections in the windows of one image; the order of the windows does not matter.

    Args:
        found: detections of each window, at least one window, none twice. Those of a single window are returned
            unchanged, except by `plain_nms`.
        method: `nms` keeps the best of overlapping boxes; `window_nms` does so only between windows, because a crowd's
            boxes overlap within one window too; `wbf` averages overlapping boxes (weighted boxes fusion); `soft_nms`
            lowers the scores of all but the best; `plain_nms` is class-wise NMS of all without joining views and
            dropping fragments first, as in SODA-D's tools with 0.5.
        iou: IoU above which two detections of one class are one object.

    Returns:
        `boxes` (k, 4) xyxy px, `scores` (k,), `labels` (k,), in descending order of score.
    """
    if method == "plain_nms":
        return suppress(_in_order(_concatenate([part.detections for part in found])), iou)
    if len(found) == 1:
        return found[0].detections
    whole = drop_fragments(join_views(sorted(found, key=lambda part: part.window), iou), iou)
    placed = [part.detections | {"frames": _frames(part)} for part in whole]
    together = _in_order(_concatenate(placed))
    frames = together.pop("frames")
    match method:
        case "window_nms":
            return suppress(together, iou, frames)
        case "nms":
            return suppress(together, iou)
        case "wbf":
            return fuse(together, iou)
        case "soft_nms":
            return suppress_softly(together, iou)


def suppress(detections: DetectionTensors, iou: float, frames: Tensor | None = None) -> DetectionTensors:
    """Suppress overlapping detections of one class, with the result of torchvision's NMS but over close pairs only.

    Each round keeps all detections without a better rival left and removes those that they overlap by more than `iou`.

    Args:
        detections: detections in descending order of score.
        iou: IoU above which two detections are rivals.
        frames: (N, 4) corners of each detection's window, xyxy px; two detections in one window are no rivals. None
            makes all overlapping ones rivals.

    Returns:
        The detections that are kept, in the same order.
    """
    first, second, overlap = overlapping_pairs(detections, iou)
    rivals = overlap > iou
    if frames is not None:
        rivals &= ~_nested(frames.numpy()[first], frames.numpy()[second])
    first, second = first[rivals], second[rivals]
    better, worse = np.minimum(first, second), np.maximum(first, second)
    kept = np.ones(len(detections["scores"]), dtype=bool)
    while len(better):
        has_rival = np.zeros_like(kept)
        has_rival[worse] = True
        gone = worse[~has_rival[better]]
        kept[gone] = False
        # Pairs with a removed detection are decided, and so are pairs of detections that are both kept.
        open_pairs = kept[better] & kept[worse]
        better, worse = better[open_pairs], worse[open_pairs]
    return {name: values[torch.from_numpy(kept)] for name, values in detections.items()}


def suppress_softly(detections: DetectionTensors, iou: float) -> DetectionTensors:
    """Apply soft-NMS with linear decay (Bodla et al., 2017), class by class.

    From the best down, every detection multiplies the scores of the remaining ones that overlap it by at least `iou`
    by 1 - IoU. Detections that fall below `LEAST_SCORE` are dropped.

    Args:
        detections: detections in descending order of score.
        iou: least IoU at which scores decay.

    Returns:
        The remaining detections with decayed scores, in descending order of score.
    """
    neighbours, overlaps, starts = _adjacency(*overlapping_pairs(detections, iou), len(detections["scores"]))
    scores = detections["scores"].double().numpy().copy()
    is_open = np.ones(len(scores), dtype=bool)
    queue = list(zip((-scores).tolist(), range(len(scores)), strict=True))
    heapify(queue)
    while queue:
        score, index = heappop(queue)
        if not is_open[index] or -score != scores[index]:
            continue  # its score has decayed since; a later entry of the queue has the present one
        is_open[index] = False
        around = slice(starts[index], starts[index + 1])
        later = is_open[neighbours[around]]
        lowered = neighbours[around][later]
        scores[lowered] *= 1 - overlaps[around][later]
        for other in lowered.tolist():
            heappush(queue, (-scores[other], other))
    kept = torch.from_numpy(scores >= LEAST_SCORE)
    decayed = detections | {"scores": torch.from_numpy(scores).to(detections["scores"].dtype)}
    return _in_order({name: values[kept] for name, values in decayed.items()})


def fuse(detections: DetectionTensors, iou: float) -> DetectionTensors:
    """Apply weighted boxes fusion (Solovyev et al., 2021), class by class.

    From the best down, a detection joins the cluster whose fused box it overlaps most, by more than `iou`, or begins a
    cluster. A fused box is the mean of its cluster's boxes, weighted by score. Its score is the cluster's best: the
    paper's mean times the fraction of models that agree would penalise an object that lies in one window only.

    Args:
        detections: detections of one image.
        iou: IoU above which a detection joins a cluster.

    Returns:
        One detection per cluster, in descending order of score.
    """
    boxes, scores = detections["boxes"].double().numpy(), detections["scores"].double().numpy()
    order = np.argsort(-scores, kind="stable")
    neighbours, _, starts = _adjacency(*overlapping_pairs(detections, 0.0), len(scores))
    cluster = np.full(len(scores), -1)
    weighted, weights = np.zeros_like(boxes), np.zeros(len(scores))
    for index in order.tolist():
        near = cluster[neighbours[starts[index] : starts[index + 1]]]
        near = np.unique(near[near >= 0])
        chosen = index
        if len(near):
            overlap = _iou(boxes[index], weighted[near] / weights[near, None])
            if overlap.max() > iou:
                chosen = near[overlap.argmax()]
        cluster[index] = chosen
        weighted[chosen] += scores[index] * boxes[index]
        weights[chosen] += scores[index]
    first = order[cluster[order] == order]  # a cluster is named after its best detection
    fused = torch.from_numpy(weighted[first] / weights[first, None]).to(detections["boxes"].dtype)
    return {name: values[torch.from_numpy(first)] for name, values in detections.items()} | {"boxes": fused}


def overlapping_pairs(
    detections: DetectionTensors, iou: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Find the overlapping pairs of detections of one class by a sweep from left to right.

    Args:
        detections: detections of one image.
        iou: least IoU of a pair.

    Returns:
        (P,) and (P,) indices, each pair once, and (P,) IoU, at least `iou` and above 0.
    """
    boxes, labels = detections["boxes"].double().numpy(), detections["labels"].numpy()
    if not len(boxes):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    # Shift the classes side by side, so that they never overlap.
    shift = labels * (boxes[:, 2].max() - boxes[:, 0].min() + 1)
    order = np.argsort(boxes[:, 0] + shift, kind="stable")
    left, right = (boxes[:, 0] + shift)[order], (boxes[:, 2] + shift)[order]
    ends = np.searchsorted(left, right)
    counts = np.maximum(ends - np.arange(len(boxes)) - 1, 0)
    parts, begin = [], 0
    while begin < len(boxes):
        end = max(begin + 1, int(np.searchsorted(np.cumsum(counts[begin:]), _CHUNK)) + begin)
        first = np.repeat(np.arange(begin, end), counts[begin:end])
        second = first + 1 + np.arange(len(first)) - np.repeat(_sums_before(counts[begin:end]), counts[begin:end])
        a, b = order[first], order[second]
        near = (boxes[a, 1] < boxes[b, 3]) & (boxes[b, 1] < boxes[a, 3])
        a, b = a[near], b[near]
        overlap = _iou(boxes[a], boxes[b])
        enough = (overlap >= iou) & (overlap > 0)
        parts.append((a[enough], b[enough], overlap[enough]))
        begin = end
    firsts, seconds, overlaps = zip(*parts, strict=True)
    return np.concatenate(firsts), np.concatenate(seconds), np.concatenate(overlaps)


def _adjacency(
    first: NDArray[np.int64], second: NDArray[np.int64], overlap: NDArray[np.float64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return neighbours and IoUs, those of detection i at [starts[i], starts[i + 1]), and the starts."""
    own, other = np.concatenate([first, second]), np.concatenate([second, first])
    order = np.argsort(own, kind="stable")
    starts = np.searchsorted(own[order], np.arange(count + 1))
    return other[order], np.concatenate([overlap, overlap])[order], starts


def _sums_before(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(counts) - counts


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the IoU of xyxy boxes row by row, or of one with many."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clip(0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _frames(part: WindowDetections) -> Tensor:
    """Repeat the corners of the window for each of its detections, (n, 4)."""
    return torch.tensor(part.window.corners).expand(len(part.detections["scores"]), 4)


def _nested(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell for each of P pairs of windows whether one lies in the other, as a window does in a union of windows."""
    beyond = (a - b) * np.array([-1, -1, 1, 1])  # px by which each side of a is outside b
    return np.asarray((beyond <= 0).all(1) | (beyond >= 0).all(1))


def _concatenate(parts: Sequence[DetectionTensors]) -> DetectionTensors:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _in_order(detections: DetectionTensors) -> DetectionTensors:
    """Sort by descending score, ties by label and box, so that the order of the windows has no effect."""
    keys = [*detections["boxes"].numpy().T[::-1], detections["labels"].numpy(), -detections["scores"].numpy()]
    order = torch.from_numpy(np.lexsort(keys))
    return {name: values[order] for name, values in detections.items()}
