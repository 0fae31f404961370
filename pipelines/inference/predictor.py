"""From image files to results: the part of a prediction that runs wherever the model is."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from mrqm.data.images.decoding import UnreadableImageError, decode
from mrqm.inference.detector import Detector, OpenImage
from mrqm.structures.detections import Detections, to_image_detections
from mrqm.visualization.detections import draw_detections
from pipelines.inference.results_dir import Result, pack

LARGEST_PICTURE = 4000
"""Longer side of drawn pictures in px: lines of two px stay visible when one fills a screen."""


def predict_images(
    detector: Detector,
    images: Iterable[tuple[int, Path]],
    draw_from: float | None,
    on_share: Callable[[float], None] = lambda _: None,
) -> Iterator[Result]:
    """Results of (index, path) pairs, each image's as soon as it is known.

    Args:
        detector: on its device.
        images: read no earlier than the next batch needs; files that do not decode give a fault each.
        draw_from: least score of what the pictures show; None draws none.
        on_share: told again and again how much of the newest image is done, of 1.
    """
    faults: list[Result] = []
    left_out: list[int] = []
    opened: deque[_Opened] = deque()

    def readable() -> Iterator[OpenImage]:
        for index, path in images:
            try:
                image = detector.open(path)
            except UnreadableImageError as error:
                faults.append(Result(index, fault=str(error)))
                continue
            opened.append(_Opened(index, path, image.size))
            yield image

    for detections in detector.detect_open(readable(), on_share, left_out.append):
        image = opened.popleft()
        picture = b"" if draw_from is None else _draw(image, detections, detector.classes, draw_from)
        part = pack(to_image_detections(detections), image.size)
        yield Result(image.number, part, picture, left_out=left_out.pop() if left_out else 0)
        yield from faults
        faults.clear()
    yield from faults


class _Opened(NamedTuple):
    """What is kept of an image until its detections are known."""

    number: int
    path: Path
    size: tuple[int, int]


def _draw(image: _Opened, detections: Detections, classes: Sequence[str], draw_from: float) -> bytes:
    """JPEG of the detections on the image at its own size, whatever the scale at which the model looked."""
    zoom = min(1.0, LARGEST_PICTURE / max(image.size))
    height, width = (round(side * zoom) for side in image.size)
    pixels = torch.from_numpy(decode(image.path, (height, width))).permute(2, 0, 1)
    placed = detections | {"boxes": detections["boxes"] * zoom}
    buffer = io.BytesIO()
    draw_detections(pixels, placed, classes, draw_from).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()
