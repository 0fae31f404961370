"""Transforms of an image for the network: a view of it, drawn at random in training.

Parameters are drawn here from a given generator and passed to torchvision's v2 functionals, so that the sample of an
item is a function of its seed alone, in whatever process it is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from mrqm.structures.window import Window


@dataclass(frozen=True)
class View:
    """Window of an image with its transforms.

    Attributes:
        window: window in px of the image.
        size: (height, width) in px that the window is resized to.
        flip: exchange left and right.
        brightness, contrast, saturation: factors; 1 changes nothing.
    """

    window: Window
    size: tuple[int, int]
    flip: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0


def plain_view(window: Window) -> View:
    """Return the view of a window without transforms."""
    return View(window, (window.height, window.width))


@dataclass(frozen=True)
class Augmentation:
    """Random views of training images.

    Args:
        horizontal_flip: probability of a left-right flip.
        scale_jitter: range of a log-uniform zoom.
        random_crop: move tiles off the grid by up to half their size.
        color_jitter: greatest distance of the brightness, contrast and saturation factors from 1; factors are at least
            0.
        tile: side of the tiles in px; None for whole images.
        max_side: greatest side of a view in px; None for no limit.
    """

    horizontal_flip: float
    scale_jitter: tuple[float, float]
    random_crop: bool
    color_jitter: float
    tile: int | None
    max_side: int | None

    @property
    def keeps_grid(self) -> bool:
        """True if the window of every view is the item's own."""
        return self.scale_jitter == (1.0, 1.0) and not self.random_crop

    def draw(self, window: Window, image_size: tuple[int, int], rng: np.random.Generator) -> View:
        """Draw the view of an item; the same generator state gives the same view.

        Args:
            window: window of the item, on the grid or of the whole image.
            image_size: (height, width) of its image in px.
            rng: generator of random numbers.

        Returns:
            The view.
        """
        least, most = self.scale_jitter
        zoom = exp(rng.uniform(log(least), log(most)))
        flip = bool(rng.random() < self.horizontal_flip)
        factors = np.maximum(0, 1 + self.color_jitter * rng.uniform(-1, 1, size=3)).tolist()
        if self.tile is None:
            view = _zoom_whole(window, zoom, self.max_side)
        else:
            view = _zoom_tile(window, image_size, zoom, self.tile, self.random_crop, rng)
        return replace(view, flip=flip, brightness=factors[0], contrast=factors[1], saturation=factors[2])


def _zoom_whole(window: Window, zoom: float, max_side: int | None) -> View:
    if max_side is not None:
        zoom = min(zoom, max_side / max(window.width, window.height))
    return View(window, (max(1, round(window.height * zoom)), max(1, round(window.width * zoom))))


def _zoom_tile(
    window: Window, image_size: tuple[int, int], zoom: float, tile: int, random_crop: bool, rng: np.random.Generator
) -> View:
    """Cut tile / zoom px around the item's window and resize them to a tile; less where the image is smaller."""
    side = max(1, round(tile / zoom))
    # Off the grid by up to half a tile, so that the view still touches the item's window; a zoomed view without random
    # crops lies anywhere inside the window rather than always at its middle.
    reach = tile / 2 if random_crop else max(0.0, (tile - side) / 2)
    height, left_top = image_size[0], []
    width = image_size[1]
    for start, extent, length in ((window.left, window.width, width), (window.top, window.height, height)):
        offset = rng.uniform(-reach, reach)
        begin = round(start + extent / 2 + offset - side / 2)
        left_top.append(min(max(begin, 0), max(length - side, 0)))
    cut = Window(left_top[0], left_top[1], min(side, width), min(side, height))
    return View(cut, (max(1, round(cut.height * tile / side)), max(1, round(cut.width * tile / side))))


def take_view(
    view: View, image: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32], left: int = 0
) -> tuple[Tensor, NDArray[np.float32]]:
    """Cut, resize, flip and colour an image, and move its boxes along.

    Args:
        view: view to take.
        image: (3, H, W) uint8, not changed; the whole image, or the columns from `left` on that contain the view.
        boxes_xyxy: (N, 4) boxes in px of the whole image.
        left: first column of `image` in px of the whole image.

    Returns:
        The view as uint8 (3, height, width), and (N, 4) float32 boxes, xyxy in its px, clipped to it: without area
        where they lie outside.
    """
    window = view.window
    picture = F.crop(torch.from_numpy(image), window.top, window.left - left, window.height, window.width)
    picture = picture.clone(memory_format=torch.contiguous_format)  # makes the following transforms faster, too
    if view.size != (window.height, window.width):
        picture = F.resize(picture, list(view.size), antialias=True)
    if view.flip:
        picture = F.horizontal_flip(picture)
    if view.brightness != 1:
        picture = F.adjust_brightness(picture, view.brightness)
    if view.contrast != 1:
        picture = F.adjust_contrast(picture, view.contrast)
    if view.saturation != 1:
        picture = F.adjust_saturation(picture, view.saturation)
    return picture, _place(view, boxes_xyxy)


def _place(view: View, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Transform boxes as torchvision's functionals do, to the last bit, without their ten-fold cost for few boxes."""
    left, top, width, height = view.window
    corner, sides = np.array([left, top, left, top], np.float32), np.array([width, height, width, height], np.float32)
    placed = (boxes_xyxy - corner).clip(0, sides)
    if view.size != (height, width):
        new_height, new_width = view.size
        ratios = np.array([new_width / width, new_height / height] * 2, dtype=np.float32)
        placed = placed * ratios
    if view.flip:
        placed[:, [0, 2]] = view.size[1] - placed[:, [2, 0]]
    return placed
