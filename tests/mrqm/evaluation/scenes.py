"""Images for scoring: written by hand from xywh boxes, or random and crowded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mrqm.structures.annotations import IGNORED_REGION, OTHER_OBJECT, ImageRecord
from mrqm.structures.detections import Detections
from mrqm.structures.ground_truth import make_ground_truth

Box = Sequence[float]  # x, y, w, h
CLASSES = ("car", "bus", "person")


def truth(
    objects: Sequence[tuple[Box, int]],
    ignored: Sequence[tuple[Box, int]] = (),
    *,
    flagged: Sequence[tuple[Box, int]] = (),
    image_id: int = 0,
    size: tuple[int, int] = (1000, 1000),
) -> ImageRecord:
    """Make an annotated image from (xywh, label) pairs; `ignored` of a class are crowds, `flagged` ignored objects."""
    boxes, labels = _arrays([*objects, *ignored, *flagged])
    kind = np.repeat(np.arange(3), [len(objects), len(ignored), len(flagged)])
    ground_truth = make_ground_truth(boxes, labels, crowd=kind == 1, ignored=kind == 2)
    return ImageRecord(Path(f"{image_id:06}.jpg"), image_id, size, ground_truth)


def found(*rows: tuple[Box, int, float]) -> Detections:
    """Make detections from (xywh, label, score), in the order of the rows."""
    boxes, labels = _arrays([(box, label) for box, label, _ in rows])
    return Detections(boxes, np.array([score for *_, score in rows], dtype=np.float64), labels)


def perfect(record: ImageRecord, *, seed: int = 0, shuffled: bool = False) -> Detections:
    """Detect every object exactly, with random scores."""
    rng = np.random.default_rng(seed + record.image_id)
    scores = np.sort(rng.random(len(record.labels)))[::-1]
    order = rng.permutation(len(scores)) if shuffled else np.arange(len(scores))
    objects = record.truth.take(record.truth.is_object)
    return Detections(objects.boxes_xywh[order], scores[order], objects.labels[order])


def random_images(seed: int, images: int = 8) -> tuple[list[ImageRecord], list[Detections]]:
    """Draw integer boxes, many on the border of an area range, crowds, regions, tied scores and an empty image."""
    rng = np.random.default_rng(seed)
    records, detections = [], []
    for image_id in rng.permutation(100)[:images].tolist():
        count = 0 if not records else int(rng.integers(1, 40))
        objects = np.concatenate([rng.integers(0, 400, (count, 2)), rng.integers(4, 60, (count, 2))], axis=1)
        objects[: count // 2, 2:] = rng.choice([12, 20, 32], (count // 2, 1))
        labels = rng.integers(0, 2, count)  # no person anywhere
        ignored = np.concatenate([rng.integers(0, 300, (5, 2)), rng.integers(30, 120, (5, 2))], axis=1)
        ignore_labels = np.array([IGNORED_REGION, OTHER_OBJECT, 0, 0, 1])
        near = objects[rng.integers(0, max(count, 1), 5 * count)] if count else objects
        stray = np.concatenate([rng.uniform(0, 400, (30, 2)), rng.uniform(4, 60, (30, 2))], axis=1)
        boxes = np.concatenate([near + rng.normal(0, 1.5, near.shape), stray]).round(2)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
        rows = zip(boxes.tolist(), rng.integers(0, 3, len(boxes)).tolist(), strict=True)
        scores = np.sort(rng.integers(0, 100, len(boxes)) / 128)[::-1].tolist()
        records.append(
            truth(
                list(zip(objects.tolist(), labels.tolist(), strict=True)),
                list(zip(ignored.tolist(), ignore_labels.tolist(), strict=True)),
                image_id=image_id,
            )
        )
        detections.append(found(*((box, label, score) for (box, label), score in zip(rows, scores, strict=True))))
    return records, detections


def _arrays(boxes: Sequence[tuple[Box, int]]) -> tuple[np.ndarray, np.ndarray]:
    xywh = np.array([box for box, _ in boxes], dtype=np.float64).reshape(-1, 4)
    return xywh, np.array([label for _, label in boxes], dtype=np.int64)
