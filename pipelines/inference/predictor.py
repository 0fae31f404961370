"""Prediction of image files, in the process that has the model."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from mrqm.data.images.decoding import UnreadableImageError, decode
from mrqm.inference.detector import Detector
from mrqm.inference.open_image import OpenImage
from mrqm.structures.detections import Detections, DetectionTensors
from mrqm.visualization.detections import draw_detections
from pipelines.inference.results_dir import Result, pack

LARGEST_PICTURE = 4000
"""Maximum longer side of drawn pictures in px, so that lines of two px stay visible on a screen."""


def predict_images(
    detector: Detector,
    images: Iterable[tuple[int, Path]],
    draw_from: float | None,
    on_share: Callable[[float], None] = lambda _: None,
) -> Iterator[Result]:
    """Predict images, read no earlier than the next batch needs them.

    Args:
        detector: detector on its device.
        images: pairs of index and path; a file that does not decode gives a result with a fault.
        draw_from: minimum score of drawn detections; None for no pictures.
        on_share: callback for the completed share of the current image, in [0, 1].

    Yields:
        The result of each image as soon as it is complete.
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
        part = pack(Detections.from_tensors(detections), image.size)
        yield Result(image.number, part, picture, left_out=left_out.pop() if left_out else 0)
        yield from faults
        faults.clear()
    yield from faults


class _Opened(NamedTuple):
    """An image that waits for its detections."""

    number: int
    path: Path
    size: tuple[int, int]


def _draw(image: _Opened, detections: DetectionTensors, classes: Sequence[str], draw_from: float) -> bytes:
    """Draw the detections on the image at its native size, limited to `LARGEST_PICTURE`, as JPEG."""
    zoom = min(1.0, LARGEST_PICTURE / max(image.size))
    height, width = (round(side * zoom) for side in image.size)
    pixels = torch.from_numpy(decode(image.path, (height, width))).permute(2, 0, 1)
    placed = detections | {"boxes": detections["boxes"] * zoom}
    buffer = io.BytesIO()
    draw_detections(pixels, placed, classes, draw_from).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()
