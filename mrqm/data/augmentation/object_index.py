"""Index of the objects of a training set that can be copied, and their drawing by class and size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrqm.data.images.windows import Item
from mrqm.structures.window import Window

LEAST_SIDE = 2.0
"""Least side in px of a copied object; a smaller one has no shape."""
GREATEST_SHARE = 0.5
"""Greatest side of a copied object as a share of its window's shorter side."""
MARGIN = 2
"""Least px of background copied around an object."""
MARGIN_SHARE = 0.15
"""Px of background copied around an object, as a share of its longer side."""
TRIES = 20
"""Number of objects of a class that are looked at for one without another object beside it."""


class PasteObject(NamedTuple):
    """An object that can be copied.

    `window` is its box with a margin, in whole px of the scaled image of the item with index `item`; `box` is xyxy in
    px of that window.
    """

    item: int
    window: Window
    box: NDArray[np.float32]
    label: int


class ObjectIndex:
    """Objects of a training set that can be copied: wholly inside their item's window, neither tiny dots nor large.

    A class of n objects is drawn in proportion to n^(1 - class_balance), and an object of side s among those of its
    class in proportion to s^-size_exponent, the side being the square root of the area.

    Args:
        items: items of the training set.
        class_balance: 0 draws classes as often as they occur, 1 all equally often.
        size_exponent: exponent of the preference for small objects; 0 takes sizes as they occur.
        max_overlap: greatest share of an object with its margin that other objects or ignored regions cover.
    """

    def __init__(self, items: Sequence[Item], class_balance: float, size_exponent: float, max_overlap: float) -> None:
        self._items, self._max_overlap = items, max_overlap
        self._clear: dict[int, bool] = {}
        self._index, self._number, labels, sides = _list_objects(items)
        order = np.argsort(labels, kind="stable")
        self._index, self._number, labels = self._index[order], self._number[order], labels[order]
        self.labels, counts = np.unique(labels, return_counts=True)
        ends = np.cumsum(counts)
        self._starts = ends - counts
        share = counts.astype(np.float64) ** (1 - class_balance)
        self.class_shares: NDArray[np.float64] = share / share.sum()
        weights = sides[order] ** -size_exponent
        self._weights = [np.cumsum(weights[end - count : end]) for end, count in zip(ends, counts, strict=True)]

    def __len__(self) -> int:
        return len(self._index)

    @property
    def is_usable(self) -> bool:
        """True if at least one object has no other beside it."""
        return any(self._is_clear(number) for number in range(len(self)))

    def draw(self, count: int, rng: np.random.Generator) -> list[PasteObject]:
        """Draw objects without others beside them; the same generator state gives the same objects.

        Args:
            count: number of objects to draw.
            rng: generator of random numbers.

        Returns:
            At most that many objects; of classes without such objects none.
        """
        if not len(self):
            return []
        classes = rng.choice(len(self.labels), size=count, p=self.class_shares)
        tries = rng.random((count, TRIES))
        drawn = []
        for label, shares in zip(classes.tolist(), tries, strict=True):
            weights = self._weights[label]
            numbers = self._starts[label] + np.searchsorted(weights, shares * weights[-1], side="right")
            clear = next((number for number in numbers.tolist() if self._is_clear(number)), None)
            if clear is not None:
                drawn.append(self._object(clear))
        return drawn

    def _object(self, number: int) -> PasteObject:
        index, own = int(self._index[number]), int(self._number[number])
        item = self._items[index]
        box = item.record.boxes[own] * item.factors
        window = _with_margin(box, item.window)
        corner = np.array([window.left, window.top] * 2, np.float32)
        return PasteObject(index, window, box - corner, int(item.record.labels[own]))

    def _is_clear(self, number: int) -> bool:
        """Tell whether an object with its margin is free of others and of ignored regions, up to `max_overlap`."""
        if number not in self._clear:
            self._clear[number] = self._is_alone(number)
        return self._clear[number]

    def _is_alone(self, number: int) -> bool:
        item, own = self._items[self._index[number]], self._number[number]
        record = item.record
        boxes = np.concatenate([np.delete(record.boxes, own, axis=0), record.ignore_boxes]) * item.factors
        left, top, right, bottom = _with_margin(record.boxes[own] * item.factors, item.window).corners
        inside = boxes.clip([left, top, left, top], [right, bottom, right, bottom])
        covered = (inside[:, 2:] - inside[:, :2]).prod(axis=1).max(initial=0.0)
        return bool(covered <= self._max_overlap * (right - left) * (bottom - top))


def _list_objects(
    items: Sequence[Item],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """List item, number within its image, label and side of every object once, in an item that shows it whole."""
    listed: dict[Path, NDArray[np.bool_]] = {}
    found: list[tuple[NDArray[np.int64], ...]] = [(np.zeros(0, np.int64),) * 3]
    sides: list[NDArray[np.float64]] = [np.zeros(0)]
    for index, item in enumerate(items):
        record, (left, top, right, bottom) = item.record, item.window.corners
        if not len(record.boxes):
            continue
        boxes = record.boxes.astype(np.float64) * item.factors
        extents = boxes[:, 2:] - boxes[:, :2]
        inside = (boxes[:, :2] >= [left, top]).all(axis=1) & (boxes[:, 2:] <= [right, bottom]).all(axis=1)
        limit = GREATEST_SHARE * min(item.window.width, item.window.height)
        fits = (extents >= LEAST_SIDE).all(axis=1) & (extents <= limit).all(axis=1)
        seen = listed.setdefault(record.path, np.zeros(len(boxes), dtype=bool))
        chosen = np.flatnonzero(inside & fits & ~seen)
        seen[chosen] = True
        found.append((np.full(len(chosen), index), chosen, record.labels[chosen]))
        sides.append(np.sqrt(extents[chosen].prod(axis=1)))
    indices, numbers, labels = (np.concatenate(part) for part in zip(*found, strict=True))
    return indices, numbers, labels, np.concatenate(sides)


def _with_margin(box: NDArray[np.float32], limits: Window) -> Window:
    """Grow a box by its margin to whole px within a window."""
    margin = max(MARGIN, MARGIN_SHARE * float((box[2:] - box[:2]).max()))
    left, top = (
        max(int(np.floor(start - margin)), least) for start, least in zip(box[:2], limits.corners, strict=False)
    )
    right, bottom = (
        min(int(np.ceil(end + margin)), most) for end, most in zip(box[2:], limits.corners[2:], strict=True)
    )
    return Window(left, top, right - left, bottom - top)
