"""Items that augmentation takes pixels from, and the draw that it makes a sample for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mrqm.data.augmentation.canvas import Canvas
from mrqm.data.augmentation.views import View
from mrqm.data.images.windows import Item


class Draw(NamedTuple):
    """Identity of an augmented sample: together with the seed it determines every pixel and box.

    `item` is the index of the item. `final` is True in the last part of a training, in which views show single images
    without added objects.
    """

    epoch: int
    item: int
    final: bool = False


class Source(Protocol):
    """Items of a training set."""

    @property
    def items(self) -> Sequence[Item]:
        """Items in the order of their indices."""

    def cut(self, index: int, view: View) -> Canvas | None:
        """Take a view of an item.

        Args:
            index: index of the item.
            view: view within the item's window, or anywhere in the image if the views leave the grid.

        Returns:
            The view with its boxes; None if the image does not decode.
        """

    def neighbours(self, epoch: int, index: int) -> NDArray[np.int64]:
        """List the items whose images are read at about the same time of an epoch, the item's own included.

        Args:
            epoch: number of the epoch.
            index: index of the item.

        Returns:
            (K,) indices.
        """
