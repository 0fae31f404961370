"""Alternative readings of the boxes, images and classes in result files, such as other box formats or id offsets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mrqm.evaluation.protocols.matching import Array
from mrqm.structures.annotations import ImageRecord

Size = tuple[int, int]
Unit = Callable[[Size], tuple[float, float]]
"""Function from an image's (height, width) to the px of a unit along each."""

_FORMS: Mapping[str, Callable[[Array], Array]] = {
    "[left, top, width, height]": lambda b: b,
    "[left, top, right, bottom]": lambda b: np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1),
    "[centre x, centre y, width, height]": lambda b: np.concatenate([b[:, :2] - b[:, 2:] / 2, b[:, 2:]], axis=1),
    "[top, left, height, width]": lambda b: b[:, [1, 0, 3, 2]],
    "[top, left, bottom, right]": lambda b: np.concatenate([b[:, [1, 0]], b[:, [3, 2]] - b[:, [1, 0]]], axis=1),
}
_UNITS: dict[str, Unit] = {
    "px": lambda size: (1, 1),
    "shares of the image's sides": lambda size: (size[0], size[1]),
    "thousandths of the image's sides": lambda size: (size[0] / 1000, size[1] / 1000),
    "px of the image at twice its size": lambda size: (0.5, 0.5),
    "px of the image at half its size": lambda size: (2, 2),
}
_SIDES = (320, 416, 512, 608, 640, 768, 800, 896, 960, 1024, 1280, 1333, 1536, 1920, 2048)
"""Lengths in px to which tools often resize the longer side of images."""


class BoxReading(NamedTuple):
    """Format of four numbers in some unit.

    Attributes:
        what: description of format and unit.
        form: function from (K, 4) numbers to (K, 4) left, top, width, height in the unit.
        unit: unit of the numbers.
    """

    what: str
    form: Callable[[Array], Array]
    unit: Unit

    def read(self, numbers: Array, size: Size) -> Array:
        """Convert numbers to boxes.

        Args:
            numbers: (K, 4) numbers of the file.
            size: (height, width) of the image in px.

        Returns:
            (K, 4) boxes, xywh in px; negative sides become 0.
        """
        y, x = self.unit(size)
        boxes = self.form(numbers) * np.array([x, y, x, y], dtype=np.float64)
        return np.concatenate([boxes[:, :2], boxes[:, 2:].clip(min=0)], axis=1)


def box_readings(sizes: Collection[Size]) -> list[BoxReading]:
    """List all readings of boxes, the right one first; of units that are equal for all sizes, only the first.

    Args:
        sizes: (height, width) of the images in px.
    """
    differing: dict[tuple[tuple[float, float], ...], tuple[str, Unit]] = {}
    for name, unit in (_UNITS | {f"px of the image resized to {side}": _resized_to(side) for side in _SIDES}).items():
        differing.setdefault(tuple(map(unit, sizes)), (name, unit))
    return [
        BoxReading(f"{form} in {name}", read, unit)
        for form, read in _FORMS.items()
        for name, unit in differing.values()
    ]


def image_readings(records: Sequence[ImageRecord]) -> dict[str, list[int | None]]:
    """Find the record whose detections each record would have under other meanings of image ids.

    Args:
        records: annotated images; unless all ids are numbers, there is no other meaning.

    Returns:
        Positions of records, None for no detections, by description of the meaning.
    """
    ids = [record.image_id for record in records]
    if not all(isinstance(image_id, int) for image_id in ids):
        return {}
    by_name = np.argsort([record.path.name for record in records], kind="stable").argsort(kind="stable").tolist()
    stems = [record.path.stem for record in records]
    called: dict[str, list[int | None]] = {
        "image ids are 1 too low": [int(image_id) - 1 for image_id in ids],
        "image ids are 1 too high": [int(image_id) + 1 for image_id in ids],
        "image ids are positions in the order of file names, from 0": by_name,
        "image ids are positions in the order of file names, from 1": [place + 1 for place in by_name],
        "image ids are positions in the annotations, from 0": list(range(len(ids))),
        "image ids are positions in the annotations, from 1": list(range(1, len(ids) + 1)),
        "image ids are the numbers in file names": [
            int(stem) if stem.isascii() and stem.isdecimal() else None for stem in stems
        ],
    }
    position = {image_id: index for index, image_id in enumerate(ids)}
    own = list(range(len(ids)))
    found = {
        what: [position.get(name) if name is not None else None for name in names] for what, names in called.items()
    }
    return {what: places for what, places in found.items() if places != own and any(p is not None for p in places)}


def class_readings(classes: Sequence[str]) -> dict[str, Array]:
    """List the label that each label would stand for under other meanings of category ids.

    Args:
        classes: class names in label order.

    Returns:
        (C,) labels, -1 for none, by description of the meaning.
    """
    labels = np.arange(len(classes))
    found = {
        "category ids are 1 too low": np.append(labels[1:], -1),
        "category ids are 1 too high": np.append(-1, labels[:-1]),
        "category ids follow the alphabet": np.argsort(np.array(classes), kind="stable"),
    }
    return {what: meant for what, meant in found.items() if not np.array_equal(meant, labels)}


def _resized_to(side: int) -> Unit:
    return lambda size: (max(size) / side, max(size) / side)
