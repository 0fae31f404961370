"""Lists of class names that belong together are matched by name: their order is nobody's to guess.

Labels count from 0 in the order of `data.classes`. Annotations and result files have numbers of their own, named by the
data set (`data.yaml`, COCO's categories), by the benchmark (VisDrone's ten) or, where nobody names them, by
`data.classes` itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrqm.structures.annotations import AnnotationSet, DataError


def match_classes(found: Sequence[str], classes: Sequence[str], source: str | Path) -> tuple[int, ...]:
    """Match one list of names with another.

    Args:
        found: names in the order of somebody's numbers.
        classes: names in label order.
        source: of `found`, for the message.

    Returns:
        The label of each of `found`.

    Raises:
        DataError: these are not the same names.
    """
    if sorted(found) != sorted(classes):
        raise DataError(
            f"{source}: its classes are {list(found)}, and {list(classes)} are expected (data.classes, or the model's "
            "own); both lists need the same names, in any order"
        )
    return tuple(classes.index(name) for name in found)


def relabel(labels: NDArray[np.int64], mapping: Sequence[int]) -> NDArray[np.int64]:
    """Replace labels by others; those of ignored boxes without class, which are negative, stay.

    Args:
        labels: (N,) int64.
        mapping: the new label of each label.
    """
    return np.where(labels < 0, labels, np.array(mapping, dtype=np.int64)[labels.clip(0)])


def order_classes(annotations: AnnotationSet, classes: Sequence[str], source: str | Path) -> AnnotationSet:
    """The same annotations with labels in another order of the classes; each object keeps the name of its class.

    Args:
        annotations: of a reader.
        classes: names in the wanted order.
        source: where the annotations' own names are from, for the message.

    Raises:
        DataError: these are not the names of the annotations' classes.
    """
    if annotations.classes == tuple(classes):
        return annotations
    mapping = match_classes(annotations.classes, classes, source)
    records = tuple(
        replace(record, truth=replace(record.truth, labels=relabel(record.truth.labels, mapping)))
        for record in annotations.records
    )
    return replace(annotations, classes=tuple(classes), records=records)


def name_numbers(official: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    """Find out what the category numbers of a benchmark's layout mean.

    Args:
        official: names of the benchmark's own categories, in the order of their numbers.
        classes: names in label order.

    Returns:
        The official names if the classes are these in any order, else the classes: data of somebody's own in that
        layout, whose numbers nobody else names.
    """
    return tuple(official if sorted(official) == sorted(classes) else classes)
