"""Rows of a detector's tensors that belong to classes, anchors or queries, found again by what they mean."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from torch import Tensor

from mrqm.checkpoint.ancestor import anchors_of
from mrqm.checkpoint.lookup import CheckpointError

CLASS_ROWS = ("query_selection.class_head.", "decoder.class_head.", "denoising.label_embedding.")
DENSE_CLASS_ROWS, DENSE_BOX_ROWS = "iou_aware_head.class_head.", "iou_aware_head.box_head."
QUERY_ROWS = "query_selection.content."

Labels = Sequence[Hashable] | None
"""Meaning of each row of a tensor; None if it is unknown."""


def label_rows(
    weights: Mapping[str, Tensor], classes: Sequence[str] | None, settings: Mapping[str, Any]
) -> dict[str, Labels]:
    """Label the rows of every tensor whose rows belong to classes, anchors or queries.

    Args:
        weights: tensors by parameter name.
        classes: class names in label order; None if unknown.
        settings: settings of the detector, by dotted key; without `ANCHORS` if these are unknown.

    Returns:
        Label of each row by parameter name; None for rows of unknown meaning.
    """
    shapes = anchors_of(settings)
    last_box = max((name for name in weights if name.startswith(DENSE_BOX_ROWS)), default="").rpartition(".")[0]
    labels: dict[str, Labels] = {}
    for name, tensor in weights.items():
        if name.startswith(CLASS_ROWS):
            labels[name] = classes
        elif name.startswith(DENSE_CLASS_ROWS):
            labels[name] = None if shapes is None or classes is None else list(product(shapes, classes))
        elif last_box and name.startswith(f"{last_box}."):
            labels[name] = None if shapes is None else list(product(shapes, range(4)))
        elif name.startswith(QUERY_ROWS):
            labels[name] = range(len(tensor))
    return labels


def transfer_rows(name: str, wanted: Tensor, found: Tensor, labels: tuple[Labels, Labels], path: Path) -> Tensor:
    """Copy the rows of the same meaning; others keep their initial value, but queries that of the last one.

    Queries are ordered by score, so that the nearest in rank of the ancestor's is its last.

    Args:
        name: name of the parameter.
        wanted: initial value of the model's.
        found: value of the ancestor's.
        labels: labels of the rows of both.
        path: file of the ancestor, for the message.

    Returns:
        Value for the model.

    Raises:
        CheckpointError: the rows have other lengths, or are not as many as the ancestor's configuration says.
    """
    ours, theirs = labels
    if found.shape[1:] != wanted.shape[1:] or (theirs is not None and len(theirs) != len(found)):
        expected = "an unknown number of" if theirs is None else len(theirs)
        raise CheckpointError(
            f"{path}: {name} has shape {tuple(found.shape)}; its configuration says {expected} rows, and the model has "
            f"rows of {tuple(wanted.shape[1:])}"
        )
    rows = {label: row for row, label in enumerate(theirs or ())}
    result = wanted.clone()
    for row, label in enumerate(ours or ()):
        if label in rows:
            result[row] = found[rows[label]]
        elif name.startswith(QUERY_ROWS):
            result[row] = found[-1]
    return result
