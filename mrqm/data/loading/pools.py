"""Order in which an epoch visits images: pool after pool, each of as many images as a cache holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_IMAGES = 16
"""Least number of images whose items are neighbours, so that caches of a few images do not narrow what is joined."""


def draw_turns(images: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the order of images and return the position in it of each item's image.

    Args:
        images: (N,) number of the image that each item belongs to.
        rng: generator of random numbers of the epoch.

    Returns:
        (N,) positions.
    """
    turns: NDArray[np.int64] = rng.permutation(images.max() + 1)[images]
    return turns


class Neighbours:
    """Items whose images are read at about the same time of an epoch, so that joining them decodes few images twice.

    Args:
        images: (N,) number of the image that each item belongs to.
        pool: number of images in a pool.
        seed: seed of the order, as the sampler's.
    """

    def __init__(self, images: NDArray[np.int64], pool: int, seed: int) -> None:
        self._images, self._pool, self._seed = images, max(pool, LEAST_IMAGES), seed
        self._epoch = -1

    def of(self, epoch: int, index: int) -> NDArray[np.int64]:
        """List the neighbours of an item in an epoch, itself included.

        Args:
            epoch: number of the epoch.
            index: index of the item.

        Returns:
            (K,) indices.
        """
        if epoch != self._epoch:
            turns = draw_turns(self._images, np.random.default_rng((self._seed, epoch)))
            last = max(0, len(np.unique(self._images)) // self._pool - 1)  # a smaller rest joins the pool before it
            self._group = np.minimum(turns // self._pool, last)
            self._order = np.argsort(self._group, kind="stable")
            self._starts = np.searchsorted(self._group[self._order], np.arange(last + 2))
            self._epoch = epoch
        group = self._group[index]
        return self._order[self._starts[group] : self._starts[group + 1]]
