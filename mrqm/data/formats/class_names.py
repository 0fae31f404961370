"""Matching of class names: lists that belong together are matched by name, never by an assumed order.

Labels count from 0 in the order of `data.classes`. Annotations and result files have numbers of their own, named by the
data set (`data.yaml`, COCO's categories), by the benchmark (VisDrone's ten) or, where neither names them, by
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
        found: names in the order of the source's numbers.
        classes: class names in label order.
        source: origin of `found`, for the message.

    Returns:
        The label of each of `found`.

    Raises:
        DataError: the lists differ in a name.
    """
    if sorted(found) != sorted(classes):
        raise DataError(
            f"{source}: its classes are {list(found)}, and {list(classes)} are expected (data.classes, or the model's "
            "own); both lists need the same names, in any order"
        )
    return tuple(classes.index(name) for name in found)


def relabel(labels: NDArray[np.int64], mapping: Sequence[int]) -> NDArray[np.int64]:
    """Replace labels by others; negative labels, of ignored boxes without a class, stay.

    Args:
        labels: (N,) int64 labels.
        mapping: new label of each label.

    Returns:
        (N,) new labels.
    """
    return np.where(labels < 0, labels, np.array(mapping, dtype=np.int64)[labels.clip(0)])


def order_classes(annotations: AnnotationSet, classes: Sequence[str], source: str | Path) -> AnnotationSet:
    """Change labels to another order of the classes, so that each object keeps the name of its class.

    Args:
        annotations: annotations from a reader.
        classes: class names in the wanted order.
        source: origin of the annotations' own names, for the message.

    Returns:
        The annotations with labels in that order.

    Raises:
        DataError: the names differ from those of the annotations' classes.
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
    """Find the names of category numbers in a benchmark's layout.

    Args:
        official: names of the benchmark's own categories, in the order of their numbers.
        classes: class names in label order.

    Returns:
        The official names if the classes are these in any order, else the classes, because other data in that layout
        has no other source of names.
    """
    return tuple(official if sorted(official) == sorted(classes) else classes)
