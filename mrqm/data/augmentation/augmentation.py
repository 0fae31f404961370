"""Augmentation of a training set, from the choice of a view to the last change of its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    """Random changes of training images; None leaves a change out.

    Each change has random numbers of its own, so that turning one on leaves the others as they are. In the final part
    of a training no images are joined, no objects copied and no pixels degraded.

    Args:
        seed: seed of all random numbers.
        views: windows and zooms.
        joining: mosaics and mixtures.
        copy_paste: copies of objects.
        symmetries: flips and turns.
        colors: brightness, contrast and saturation.
        degradation: grey, blurred, noisy and compressed images.
    """

    seed: int
    views: ViewSampler
    joining: Joining | None = None
    copy_paste: CopyPaste | None = None
    symmetries: Symmetries | None = None
    colors: ColorJitter | None = None
    degradation: Degradation | None = None

    def make(self, source: Source, draw: Draw) -> Canvas | None:
        """Make the canvas of a training item; it depends on the seed, the draw and the data alone.

        Args:
            source: items of the training set.
            draw: epoch and index of the item, and the part of the training.

        Returns:
            The canvas; None if the item's image does not decode.
        """
        item = source.items[draw.item]
        view = self.views.draw(item.window, item.size, self._random(draw, 0))
        if self.joining is None or draw.final:
            canvas = source.cut(draw.item, view)
        else:
            canvas = self.joining.take(source, draw.epoch, draw.item, view, self._random(draw, 1))
        if canvas is None:
            return None
        if self.copy_paste is not None and not draw.final:
            canvas = self.copy_paste.apply(source, canvas, draw.epoch, self._random(draw, 2))
        if self.symmetries is not None:
            canvas = self.symmetries.apply(canvas, self._random(draw, 3))
        if self.colors is not None:
            canvas = replace(canvas, pixels=self.colors.apply(canvas.pixels, self._random(draw, 4)))
        if self.degradation is not None and not draw.final:
            canvas = replace(canvas, pixels=self.degradation.apply(canvas.pixels, self._random(draw, 5)))
        return canvas

    def _random(self, draw: Draw, stage: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, draw.epoch, draw.item, stage))
