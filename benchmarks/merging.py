"""Measure the seconds of merging detections in a crowded image, for all methods, on one core.

    python benchmarks/merging.py                 # 30,000 boxes of ten classes, and of one
    python benchmarks/merging.py --boxes 100000

Objects of 8 to 60 px, each found several times through the windows (800 px, overlap 150) of a 4,000 × 3,000 px image.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from numpy.typing import NDArray

from mrqm.data.images.tiling import grid
from mrqm.inference.tile_merging import merge
from mrqm.structures.detections import WindowDetections
from mrqm.structures.window import Window

IMAGE_SIZE = (3000, 4000)


def predict(
    window: Window, centers: NDArray[np.float64], sides: NDArray[np.float64], labels: NDArray[np.int64], count: int
) -> WindowDetections:
    """Make detections of the objects in a window, with noise of 1.5 px.

    Args:
        window: window in px of the image.
        centers: centers (N, 2) of all objects in px.
        sides: width and height (N, 2) of all objects in px.
        labels: labels (N,) of all objects.
        count: number of detections.

    Returns:
        Detections in px of the image, with random scores.
    """
    rng = np.random.default_rng(window.left + 10_000 * window.top)
    corners = np.array([[window.left, window.top], [window.left + window.width, window.top + window.height]])
    seen = rng.choice(np.flatnonzero(((centers > corners[0]) & (centers < corners[1])).all(1)), count)
    boxes = np.concatenate([centers[seen] - sides[seen] / 2, centers[seen] + sides[seen] / 2], 1)
    boxes = (boxes + rng.normal(0, 1.5, boxes.shape)).clip(np.tile(corners[0], 2), np.tile(corners[1], 2))
    scores = torch.from_numpy(rng.uniform(0.01, 1, count)).float()
    found = {"boxes": torch.from_numpy(boxes).float(), "scores": scores, "labels": torch.from_numpy(labels[seen])}
    return WindowDetections(window, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=30_000)
    count = parser.parse_args().boxes
    torch.set_num_threads(1)
    windows, rng = grid(IMAGE_SIZE, 800, 150), np.random.default_rng(0)
    objects = count // 7
    centers = rng.uniform(0, IMAGE_SIZE[::-1], (objects, 2))
    sides = np.exp(rng.uniform(np.log(8), np.log(60), (objects, 2)))
    for classes in (10, 1):
        labels = rng.integers(0, classes, objects)
        found = [predict(window, centers, sides, labels, count // len(windows)) for window in windows]
        for method in ("window_nms", "nms", "wbf", "soft_nms", "plain_nms"):
            begin = time.perf_counter()
            merged = merge(found, method)  # type: ignore[arg-type]
            seconds = time.perf_counter() - begin
            kept = len(merged["scores"])
            print(f"{count:,} boxes, {classes:>2} classes, {method:<10} {seconds:6.2f} s  {kept:,} left")


if __name__ == "__main__":
    main()
