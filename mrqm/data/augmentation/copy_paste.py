"""Copies of small and rare objects, pasted with soft edges where they hide little."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from mrqm.data.augmentation.canvas import Boxes, Canvas, box_areas
from mrqm.data.augmentation.object_index import ObjectIndex, PasteObject
from mrqm.data.augmentation.source import Source
from mrqm.data.augmentation.views import plain_view

BANK_LEAST = 2048
"""Least number of objects drawn for an epoch."""
IMAGES_PER_OBJECT = 4
"""Number of training images for each object drawn for an epoch, which bounds the images decoded for them."""
BANK_MB = 128
"""Greatest size in MiB of the objects drawn for an epoch, which each process keeps in memory."""
BANK_STAGE = 6
"""Stage of the random numbers that draw an epoch's objects; the stages of a sample are below."""
PLACES = 10
"""Number of random places that are tried for each copy."""


@dataclass(frozen=True)
class Patch:
    """Pixels of an object with a margin.

    Attributes:
        pixels: (3, H, W) uint8.
        box: (4,) xyxy box of the object in px of the patch.
        label: label of the object.
    """

    pixels: Tensor
    box: NDArray[np.float32]
    label: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in px."""
        return self.pixels.shape[1], self.pixels.shape[2]


class CopyPaste:
    """Random copies of objects.

    The objects of an epoch are drawn anew, by class and size, for the whole training set: their images are decoded once
    per epoch and process, not for every copy.

    Args:
        objects: objects of the training set.
        probability: probability that a canvas gets copies.
        max_objects: greatest number of copies on a canvas; the number is uniform from 1.
        scale_jitter: range of a log-uniform zoom of a copy.
        max_overlap: greatest share that a copy and an object or ignored region have in common, of the smaller of both.
        mirrored: probability that a copy is flipped left-right.
        seed: seed of the objects of an epoch.
    """

    def __init__(
        self, objects: ObjectIndex, *, probability: float, max_objects: int, scale_jitter: tuple[float, float],
        max_overlap: float, mirrored: float, seed: int,
    ) -> None:  # fmt: skip
        self._objects, self._probability, self._max_objects = objects, probability, max_objects
        self._scale_jitter, self._max_overlap, self._mirrored, self._seed = scale_jitter, max_overlap, mirrored, seed
        self._epoch = -1
        self._bank: list[PasteObject] = []
        self._patches: dict[int, Patch | None] = {}

    def apply(self, source: Source, canvas: Canvas, epoch: int, rng: np.random.Generator) -> Canvas:
        """Paste copies of objects at random; the same generator state gives the same result.

        Args:
            source: items of the training set.
            canvas: canvas to paste on.
            epoch: number of the epoch.
            rng: generator of random numbers.

        Returns:
            The canvas with copies, as many as there are places for.
        """
        if rng.random() >= self._probability:
            return canvas
        self._prepare(source, epoch)
        if not self._bank:
            return canvas
        patches = []
        for number in rng.integers(len(self._bank), size=int(rng.integers(1, self._max_objects + 1))).tolist():
            patch = self._read(source, number)
            if patch is not None:
                patches.append(self._vary(patch, rng))
        return paste(canvas, patches, self._max_overlap, rng)

    def _prepare(self, source: Source, epoch: int) -> None:
        """Draw the objects of an epoch."""
        if epoch != self._epoch:
            images = len({item.record.path for item in source.items})
            count = max(BANK_LEAST, images // IMAGES_PER_OBJECT)
            drawn = self._objects.draw(count, np.random.default_rng((self._seed, epoch, 0, BANK_STAGE)))
            sizes = np.cumsum([3 * one.window.width * one.window.height for one in drawn])
            self._bank = drawn[: max(1, int(np.searchsorted(sizes, BANK_MB * 2**20, side="right")))]
            self._epoch, self._patches = epoch, {}

    def _read(self, source: Source, number: int) -> Patch | None:
        if number not in self._patches:
            one = self._bank[number]
            canvas = source.cut(one.item, plain_view(one.window))
            self._patches[number] = None if canvas is None else Patch(canvas.pixels, one.box, one.label)
        return self._patches[number]

    def _vary(self, patch: Patch, rng: np.random.Generator) -> Patch:
        """Zoom and flip a patch at random."""
        zoom = exp(rng.uniform(log(self._scale_jitter[0]), log(self._scale_jitter[1])))
        flip = rng.random() < self._mirrored
        height, width = (max(1, round(side * zoom)) for side in patch.size)
        pixels, (left, top, right, bottom) = patch.pixels, patch.box.tolist()
        x, y = width / patch.size[1], height / patch.size[0]
        if (height, width) != patch.size:
            pixels = F.resize(pixels, [height, width], antialias=True)
        left, right = left * x, right * x
        if flip:
            pixels, left, right = F.horizontal_flip(pixels), width - right, width - left
        return Patch(pixels, np.array([left, top * y, right, bottom * y], np.float32), patch.label)


def paste(canvas: Canvas, patches: list[Patch], max_overlap: float, rng: np.random.Generator) -> Canvas:
    """Paste patches at random places, where they hide little and do not touch one another.

    Args:
        canvas: canvas to paste on; it is not changed.
        patches: patches to paste; those for which no place is found are left out.
        max_overlap: greatest share that a patch and an object or ignored region have in common, of the smaller of both.
        rng: generator of random numbers.

    Returns:
        The canvas with the objects of the patches; `hidden` of the others counts what the patches cover.
    """
    pixels, boxes = canvas.pixels.clone(), canvas.boxes
    taken = np.zeros((0, 4), np.float32)
    hidden, pasted = boxes.hidden.copy(), []
    for patch in patches:
        place = _find_place(canvas.size, patch.size, boxes.xyxy, taken, max_overlap, rng)
        if place is None:
            continue
        left, top, right, bottom = place.astype(int).tolist()
        under = pixels[:, top:bottom, left:right]
        under.copy_(torch.lerp(under.float(), patch.pixels.float(), _opacity(patch)).round_().to(torch.uint8))
        hidden = hidden + _shared_areas(place, boxes.xyxy)
        taken = np.concatenate([taken, place[None]])
        pasted.append(_object_box(patch, left, top))
    return Canvas(pixels, replace(boxes, hidden=hidden).join(*pasted))


def _find_place(
    size: tuple[int, int], patch: tuple[int, int], boxes: NDArray[np.float32], taken: NDArray[np.float32],
    max_overlap: float, rng: np.random.Generator,
) -> NDArray[np.float32] | None:  # fmt: skip
    """Draw the xyxy place of a patch; None if none of some random places is free enough."""
    rooms = size[0] - patch[0], size[1] - patch[1]
    allowed = max_overlap * np.minimum(box_areas(boxes), patch[0] * patch[1])
    for y, x in rng.random((PLACES, 2)):
        if min(rooms) < 0:
            return None
        top, left = int(y * (rooms[0] + 1)), int(x * (rooms[1] + 1))
        place = np.array([left, top, left + patch[1], top + patch[0]], np.float32)
        if (_shared_areas(place, boxes) <= allowed).all() and not _shared_areas(place, taken).any():
            return place
    return None


def _shared_areas(place: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the area of each box that lies inside a place."""
    return box_areas(boxes.clip(place[[0, 1, 0, 1]], place[[2, 3, 2, 3]]))


def _opacity(patch: Patch) -> Tensor:
    """Compute the (H, W) weight of a patch: 1 over the object, falling to 0 at the edges of its margin."""
    left, top, right, bottom = patch.box.tolist()
    height, width = patch.size
    x, y = (_ramp(*ends) for ends in ((left, right, width), (top, bottom, height)))
    return torch.from_numpy(np.minimum(y[:, None], x[None]))


def _ramp(begin: float, end: float, length: int) -> NDArray[np.float32]:
    """Weight each px by 1 inside [begin, end], falling to 0 half a px beyond the ends of [0, length]."""
    centres = np.arange(length) + 0.5
    before = (centres + 0.5) / (begin + 0.5)
    after = (length - centres + 0.5) / (length - end + 0.5)
    return np.minimum(before, after).clip(0, 1).astype(np.float32)


def _object_box(patch: Patch, left: int, top: int) -> Boxes:
    box = patch.box[None]
    boxes = Boxes(
        xyxy=box,
        labels=np.array([patch.label]),
        annotated=np.ones(1, dtype=bool),
        whole=box_areas(box),
        hidden=np.zeros(1),
    )
    return boxes.moved(left, top)
