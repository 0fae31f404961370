"""Joined images: a mosaic of four views, and the mixture of two, all at the views' own scale."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import torch

from mrqm.data.augmentation.canvas import Canvas
from mrqm.data.augmentation.source import Source
from mrqm.data.augmentation.views import View, ViewSampler, place_boxes
from mrqm.data.images.windows import Item
from mrqm.structures.window import Window

CUT_RANGE = (0.3, 0.7)
"""Range of the place where the parts of a mosaic meet, as a share of its width and height."""
MIXTURE = (0.4, 0.6)
"""Range of the weight of the first image in a mixture."""
FILL = 114
"""Grey level where an image is smaller than its part of a mosaic."""


@dataclass(frozen=True)
class Joining:
    """Random mosaics and mixtures.

    Small objects keep their size: a mosaic has the size of a single view, and its parts are cut, not shrunk.

    Args:
        views: views of the joined items.
        mosaic: probability that a view becomes the part of a mosaic.
        mixup: probability that a view, or mosaic, is mixed with another view.
    """

    views: ViewSampler
    mosaic: float = 0.0
    mixup: float = 0.0

    def take(self, source: Source, epoch: int, index: int, view: View, rng: np.random.Generator) -> Canvas | None:
        """Take a view of an item, joined at random with other items.

        Args:
            source: items to take.
            epoch: number of the epoch, which selects the other items together with the index.
            index: index of the item.
            view: view of the item.
            rng: generator of random numbers.

        Returns:
            The canvas, of the view's size; None if the item's image does not decode.
        """
        with_mosaic, with_mixup = rng.random(2) < (self.mosaic, self.mixup)
        canvas = self._mosaic(source, epoch, index, view, rng) if with_mosaic else source.cut(index, view)
        if canvas is None or not with_mixup:
            return canvas
        return mix(canvas, self._part_of_another(source, epoch, index, canvas.size, rng), rng.uniform(*MIXTURE))

    def _mosaic(self, source: Source, epoch: int, index: int, view: View, rng: np.random.Generator) -> Canvas | None:
        quarters = draw_quarters(view.size, rng)
        own = int(rng.integers(len(quarters)))
        first = source.cut(index, part_with_object(source.items[index], view, _size(quarters[own]), rng))
        if first is None:
            return None
        parts = [
            first if number == own else self._part_of_another(source, epoch, index, _size(quarter), rng)
            for number, quarter in enumerate(quarters)
        ]
        return lay_out(view.size, quarters, parts)

    def _part_of_another(
        self, source: Source, epoch: int, index: int, size: tuple[int, int], rng: np.random.Generator
    ) -> Canvas:
        """Take a part, of at most a size, of a random view of a neighbour, or of any item if that does not decode."""
        near = source.neighbours(epoch, index)
        other = int(near[rng.integers(len(near))])
        while True:
            item = source.items[other]
            view = self.views.draw(item.window, item.size, rng)
            part = source.cut(other, part_with_object(item, view, size, rng))
            if part is not None:
                return part
            other = int(rng.integers(len(source.items)))


def draw_quarters(size: tuple[int, int], rng: np.random.Generator) -> list[Window]:
    """Divide a canvas into four parts that meet at a random place.

    Args:
        size: (height, width) in px.
        rng: generator of random numbers.

    Returns:
        The parts, row by row; fewer where a side has a single px.
    """
    rows, columns = (
        [(0, cut), (cut, side - cut)] for side in size for cut in [round(side * rng.uniform(*CUT_RANGE))]
    )  # (start, length) each
    return [Window(left, top, width, height) for top, height in rows for left, width in columns if height and width]


def part_with_object(item: Item, view: View, size: tuple[int, int], rng: np.random.Generator) -> View:
    """Draw a part of a view around one of its objects, or anywhere if it has none.

    Args:
        item: item of the view.
        view: view of the item.
        size: (height, width) of the part in px of the view; it is smaller where the view is.
        rng: generator of random numbers.

    Returns:
        The part.
    """
    height, width = min(size[0], view.size[0]), min(size[1], view.size[1])
    boxes = place_boxes(view, item.record.boxes * item.factors)
    seen = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    choice, anywhere = rng.random(), rng.random(2)
    x, y = anywhere * view.size[::-1]
    if len(seen):
        left, top, right, bottom = seen[int(choice * len(seen))].tolist()
        x, y = (left + right) / 2, (top + bottom) / 2
    return view.part(_start(x, width, view.size[1], rng), _start(y, height, view.size[0], rng), (height, width))


def lay_out(size: tuple[int, int], places: list[Window], parts: list[Canvas]) -> Canvas:
    """Join canvases to one.

    Args:
        size: (height, width) of the joined canvas in px.
        places: place of each part.
        parts: canvases of at most the size of their places, at whose upper left corners they are put.

    Returns:
        The joined canvas, grey where parts are smaller than their places.
    """
    pixels = torch.full((3, *size), FILL, dtype=torch.uint8)
    moved = []
    for place, part in zip(places, parts, strict=True):
        height, width = part.size
        pixels[:, place.top : place.top + height, place.left : place.left + width] = part.pixels
        moved.append(part.boxes.moved(place.left, place.top))
    return Canvas(pixels, moved[0].join(*moved[1:]))


def mix(canvas: Canvas, other: Canvas, weight: float) -> Canvas:
    """Mix a canvas with another; the boxes of both count fully.

    Args:
        canvas: canvas to mix.
        other: canvas of at most its size, put at its upper left corner.
        weight: weight of the first canvas, in [0, 1]; it is 1 beyond the second one.

    Returns:
        The mixture.
    """
    height, width = other.size
    pixels = canvas.pixels.clone()
    both = torch.lerp(other.pixels.float(), pixels[:, :height, :width].float(), weight)
    pixels[:, :height, :width] = both.round_().to(torch.uint8)
    return Canvas(pixels, canvas.boxes.join(other.boxes))


def _start(centre: float, length: int, limit: int, rng: np.random.Generator) -> int:
    """Draw the start of a stretch within [0, limit] that contains a centre."""
    least, most = max(0, ceil(centre - length)), min(limit - length, floor(centre))
    return int(rng.integers(least, max(least, most) + 1))


def _size(place: Window) -> tuple[int, int]:
    return place.height, place.width
