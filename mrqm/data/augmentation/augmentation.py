"""Augmentation of a training set, from the choice of a view to the last change of its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrqm.data.augmentation.canvas import Canvas
from mrqm.data.augmentation.colours import ColorJitter, Degradation
from mrqm.data.augmentation.copy_paste import CopyPaste
from mrqm.data.augmentation.joining import Joining
from mrqm.data.augmentation.source import Draw, Source
from mrqm.data.augmentation.symmetries import Symmetries
from mrqm.data.augmentation.views import ViewSampler


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images.

    Each change has random numbers of its own, so that turning one on leaves the others as they are. In the final part
    of a training no images are joined, no objects copied and no pixels degraded.

    Args:
        views: windows and zooms.
        symmetries: flips and turns.
        colors: brightness, contrast and saturation.
        joining: mosaics and mixtures.
        copy_paste: copies of objects; None for no copies.
        degradation: grey, blurred, noisy and compressed images.
        seed: seed of all random numbers.
    """

    views: ViewSampler
    symmetries: Symmetries
    colors: ColorJitter
    joining: Joining
    copy_paste: CopyPaste | None
    degradation: Degradation
    seed: int

    def make(self, source: Source, draw: Draw) -> Canvas | None:
        """Make the canvas of a training item; it depends on the seed, the draw and the data alone.

        Args:
            source: items of the training set.
            draw: epoch and index of the item.

        Returns:
            The canvas; None if the item's image does not decode.
        """
        epoch, index, final = draw
        item = source.items[index]
        view = self.views.draw(item.window, item.size, self._random(draw, 0))
        if final:
            canvas = source.cut(index, view)
        else:
            canvas = self.joining.take(source, epoch, index, view, self._random(draw, 1))
        if canvas is None:
            return None
        if self.copy_paste is not None and not final:
            canvas = self.copy_paste.apply(source, canvas, epoch, self._random(draw, 2))
        canvas = self.symmetries.apply(canvas, self._random(draw, 3))
        pixels = self.colors.apply(canvas.pixels, self._random(draw, 4))
        if not final:
            pixels = self.degradation.apply(pixels, self._random(draw, 5))
        return Canvas(pixels, canvas.boxes)

    def _random(self, draw: Draw, stage: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, draw.epoch, draw.item, stage))
