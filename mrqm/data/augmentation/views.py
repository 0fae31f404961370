"""Views of an image for the network: a window and the size that it is resized to, drawn at random in training.

Parameters are drawn from a given generator and passed to torchvision's v2 functionals, so that the sample of an item
is a function of its seed alone, in whatever process it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from mrqm.structures.window import Window


@dataclass(frozen=True)
class View:
    """Window of an image and its size for the network.

    Attributes:
        window: window in px of the image.
        size: (height, width) in px that the window is resized to.
    """

    window: Window
    size: tuple[int, int]

    def part(self, left: int, top: int, size: tuple[int, int]) -> View:
        """Cut a part out of the view, at the view's zoom up to the rounding of its window to whole px.

        Args:
            left: first column in px of the view.
            top: first row in px of the view.
            size: (height, width) in px of the view, at most the view's own.

        Returns:
            The part, of exactly that size.
        """
        window = self.window
        y, x = window.height / self.size[0], window.width / self.size[1]
        height, width = max(1, round(size[0] * y)), max(1, round(size[1] * x))
        return View(
            Window(
                window.left + min(round(left * x), window.width - width),
                window.top + min(round(top * y), window.height - height),
                width,
                height,
            ),
            size,
        )


def plain_view(window: Window) -> View:
    """Return the view of a window without transforms."""
    return View(window, (window.height, window.width))


@dataclass(frozen=True)
class ViewSampler:
    """Random views of training images.

    Args:
        scale_jitter: range of a log-uniform zoom.
        random_crop: move tiles off the grid by up to half their size.
        tile: side of the tiles in px; None for whole images.
        max_side: greatest side of a view in px; None for no limit.
    """

    scale_jitter: tuple[float, float]
    random_crop: bool
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
        if self.tile is None:
            return _zoom_whole(window, zoom, self.max_side)
        return _zoom_tile(window, image_size, zoom, self.tile, self.random_crop, rng)


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


def take_pixels(view: View, image: NDArray[np.uint8], left: int = 0) -> Tensor:
    """Cut and resize an image.

    Args:
        view: view to take.
        image: (3, H, W) uint8, not changed; the whole image, or the columns from `left` on that contain the view.
        left: first column of `image` in px of the whole image.

    Returns:
        The view as uint8 (3, height, width), a copy.
    """
    window = view.window
    picture = F.crop(torch.from_numpy(image), window.top, window.left - left, window.height, window.width)
    picture = picture.clone(memory_format=torch.contiguous_format)  # makes the following transforms faster, too
    if view.size != (window.height, window.width):
        picture = F.resize(picture, list(view.size), antialias=True)
    return picture


def place_boxes(view: View, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move boxes along, as torchvision's functionals do, to the last bit, without their ten-fold cost for few boxes.

    Args:
        view: view to take.
        boxes_xyxy: (N, 4) boxes in px of the whole image.

    Returns:
        (N, 4) float32 boxes, xyxy in px of the view, clipped to it: without area where they lie outside.
    """
    left, top, width, height = view.window
    corner, sides = np.array([left, top, left, top], np.float32), np.array([width, height, width, height], np.float32)
    placed = (boxes_xyxy - corner).clip(0, sides)
    if view.size != (height, width):
        new_height, new_width = view.size
        ratios = np.array([new_width / width, new_height / height] * 2, dtype=np.float32)
        placed = placed * ratios
    return placed
