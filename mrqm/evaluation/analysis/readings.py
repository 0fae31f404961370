"""Other ways to read the boxes, images and classes of results than the ones that result files are meant to have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mrqm.evaluation.protocols.matching import Array
from mrqm.structures.annotations import ImageRecord

Size = tuple[int, int]
Unit = Callable[[Size], tuple[float, float]]
"""From (height, width) of an image to the px that a unit has along each."""

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
"""To which tools often resize the longer side of images."""


class BoxReading(NamedTuple):
    """A form of four numbers in some unit.

    Attributes:
        what: the form and the unit, for people.
        form: from (K, 4) numbers to (K, 4) left, top, width, height in the unit.
        unit: the unit.
    """

    what: str
    form: Callable[[Array], Array]
    unit: Unit

    def read(self, numbers: Array, size: Size) -> Array:
        """(K, 4) xywh in px; sides below 0 become 0."""
        y, x = self.unit(size)
        boxes = self.form(numbers) * np.array([x, y, x, y], dtype=np.float64)
        return np.concatenate([boxes[:, :2], boxes[:, 2:].clip(min=0)], axis=1)


def box_readings(sizes: Collection[Size]) -> list[BoxReading]:
    """All that is tried, the right one first; of units that are one for all sizes, only the first.

    Args:
        sizes: (height, width) of the images.
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
    """For each other meaning of image ids the position of the record whose detections each record would have.

    Args:
        records: of which all ids are numbers, or there is no other meaning.
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
    """For each other meaning of category ids the label that each label stands for; -1 for none.

    Args:
        classes: names in label order.
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
