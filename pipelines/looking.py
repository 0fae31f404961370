"""From image files to results: the part of a prediction that runs wherever the model is."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mrqm.data.images import UnreadableImageError
from mrqm.detector import Detector, OpenImage, to_image_detections
from mrqm.merging import Detections
from mrqm.pictures import draw_detections
from pipelines.prediction_folder import Result, pack

LARGEST_PICTURE = 4000
"""Longer side of drawn pictures in px: lines of two px stay visible when one fills a screen."""


def look(detector: Detector, images: Iterable[tuple[int, Path]], draw_from: float | None) -> Iterator[Result]:
    """Results of (index, path) pairs, each image's as soon as it is known.

    Args:
        detector: on its device.
        images: read no earlier than the next batch needs; files that do not decode give a fault each.
        draw_from: least score of what the pictures show; None draws none.
    """
    faults: list[Result] = []
    opened: deque[_Opened] = deque()

    def readable() -> Iterator[OpenImage]:
        for index, path in images:
            try:
                image = detector.open(path)
            except UnreadableImageError as error:
                faults.append(Result(index, fault=str(error)))
                continue
            opened.append(_Opened(index, image.size, None if draw_from is None else _shrink(image)))
            yield image

    for detections in detector.detect_open(readable()):
        image = opened.popleft()
        picture = b"" if draw_from is None else image.draw(detections, detector.classes, draw_from)
        yield Result(image.index, pack(to_image_detections(detections), image.size), picture)
        yield from faults
        faults.clear()
    yield from faults


@dataclass(frozen=True)
class _Opened:
    """What is kept of an image until its detections are known.

    Attributes:
        index: of the image.
        size: native (height, width).
        picture: uint8 (3, h, w), shrunk; None if nothing is to be drawn.
    """

    index: int
    size: tuple[int, int]
    picture: Tensor | None

    def draw(self, detections: Detections, classes: Sequence[str], draw_from: float) -> bytes:
        """JPEG of the detections."""
        assert self.picture is not None, "kept for drawing"
        factor = torch.tensor(self.picture.shape[:0:-1]) / torch.tensor(self.size[::-1])  # width, height
        placed = detections | {"boxes": detections["boxes"] * factor.repeat(2)}
        buffer = io.BytesIO()
        draw_detections(self.picture, placed, classes, draw_from).save(buffer, "jpeg", quality=90)
        return buffer.getvalue()


def _shrink(image: OpenImage) -> Tensor:
    """uint8 (3, h, w), no side above `LARGEST_PICTURE`."""
    picture = Image.fromarray(image.pixels)
    picture.thumbnail((LARGEST_PICTURE, LARGEST_PICTURE), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
