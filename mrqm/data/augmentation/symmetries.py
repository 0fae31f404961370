"""Flips and quarter turns of a canvas, which change no pixel's value."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from mrqm.data.augmentation.canvas import Canvas


@dataclass(frozen=True)
class Symmetries:
    """Random flips and quarter turns.

    Args:
        horizontal_flip: probability of a left-right flip.
        vertical_flip: probability of an up-down flip.
        quarter_turns: probability of a turn by 90, 180 or 270°, each as likely as the others.
    """

    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    quarter_turns: float = 0.0

    def apply(self, canvas: Canvas, rng: np.random.Generator) -> Canvas:
        """Flip and turn a canvas at random; the same generator state gives the same result.

        Args:
            canvas: canvas to change.
            rng: generator of random numbers.

        Returns:
            The canvas; height and width are exchanged by a turn of 90 or 270°.
        """
        horizontal, vertical, turned = rng.random(3) < (self.horizontal_flip, self.vertical_flip, self.quarter_turns)
        turns = int(rng.integers(1, 4))
        if horizontal:
            canvas = flip_horizontally(canvas)
        if vertical:
            canvas = flip_vertically(canvas)
        return turn(canvas, turns) if turned else canvas


def flip_horizontally(canvas: Canvas) -> Canvas:
    """Exchange left and right."""
    left, top, right, bottom = canvas.boxes.xyxy.T
    width = np.float32(canvas.size[1])
    return _moved(canvas, F.horizontal_flip(canvas.pixels), (width - right, top, width - left, bottom))


def flip_vertically(canvas: Canvas) -> Canvas:
    """Exchange top and bottom."""
    left, top, right, bottom = canvas.boxes.xyxy.T
    height = np.float32(canvas.size[0])
    return _moved(canvas, F.vertical_flip(canvas.pixels), (left, height - bottom, right, height - top))


def turn(canvas: Canvas, turns: int) -> Canvas:
    """Turn a canvas counter-clockwise.

    Args:
        canvas: canvas to turn.
        turns: number of turns by 90°.

    Returns:
        The turned canvas.
    """
    for _ in range(turns):
        left, top, right, bottom = canvas.boxes.xyxy.T
        width = np.float32(canvas.size[1])
        pixels = F.rotate(canvas.pixels, 90, expand=True)
        canvas = _moved(canvas, pixels, (top, width - right, bottom, width - left))
    return canvas


def _moved(canvas: Canvas, pixels: Tensor, sides: tuple[NDArray[np.float32], ...]) -> Canvas:
    return Canvas(pixels, replace(canvas.boxes, xyxy=np.stack(sides, axis=1)))
