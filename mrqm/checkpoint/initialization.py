"""Initialisation of a detector from another one, perhaps with other classes, queries, anchors and depth.

Rows of a tensor that belong to classes, anchors or queries are found again by what they mean, not by their position.
Everything else has to fit. What the ancestor lacks keeps its initial value and is named in the report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mrqm.checkpoint.ancestor import (
    ARCHITECTURE,
    Ancestor,
    anchors_of,
    architecture_of,
    find_weights,
    read_ancestor,
)
from mrqm.checkpoint.folder import build_unloaded
from mrqm.checkpoint.lookup import CheckpointError
from mrqm.checkpoint.rows import DENSE_BOX_ROWS, QUERY_ROWS, label_rows, transfer_rows
from mrqm.config import Config, ConfigError
from mrqm.config.values import to_word
from mrqm.models.mrqm import MRQM, build_model

PART = re.compile(
    r"(denoising|iou_aware_head|encoder\.salience|decoder\.layers\.\d+|bifpn\.layers\.\d+|encoder\.layers\.\d+"
    r"|encoder\.blocks\.\d+\.high_level\.\d+|encoder\.blocks\.\d+)\."
)
"""Parts that one detector may have and another lack: training branches, and layers of the repeated ones."""
UNCOUNTED = "num_batches_tracked"
"""Counter of a BatchNorm that trains, which a frozen one lacks and nothing here reads."""
NAMED = 8
"""Most names that a report lists of one kind."""


@dataclass(frozen=True)
class InitReport:
    """Account of an initialisation.

    Attributes:
        matched: classes of both detectors.
        new: classes whose rows start afresh.
        dropped: classes of the ancestor alone.
        notes: everything else that is not as in the ancestor.
    """

    matched: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    notes: tuple[str, ...]

    def describe(self) -> str:
        """Describe the initialisation in one line."""
        parts = [f"{len(self.matched)} of {len(self.matched) + len(self.new)} classes matched"]
        parts += [f"new: {_list_some(self.new)}"] if self.new else []
        parts += [f"dropped: {_list_some(self.dropped)}"] if self.dropped else []
        return "; ".join([*parts, *self.notes])


def build_initial_model(
    config: Config, classes: Sequence[str], path: Path | None = None
) -> tuple[MRQM, InitReport | None]:
    """Build the detector that a training begins with.

    Args:
        config: configuration of the training.
        classes: class names in label order.
        path: copy on this machine of the weights that `model.init` names; None to find them by that key.

    Returns:
        The detector, and the report of its initialisation from another one, if there is one.

    Raises:
        ConfigError: the backbone or its weights, or the detector of `model.init`, cannot be used.
    """
    word = config.model.init
    if word is None:
        return build_model(config, len(classes)), None
    try:
        ancestor = read_ancestor(path or find_weights(word))
        model = build_unloaded(config, len(classes))
        return model, initialize(model, ancestor, config, classes)
    except CheckpointError as error:
        raise ConfigError(f"model.init={word} cannot be used: {error}") from error


def initialize(model: MRQM, ancestor: Ancestor, config: Config, classes: Sequence[str]) -> InitReport:
    """Load the weights of an ancestor into a detector in place, or refuse them and leave it as it is.

    Args:
        model: detector of the configuration.
        ancestor: trained detector.
        config: configuration of the training.
        classes: class names in label order.

    Returns:
        Report of what was loaded and what was not.

    Raises:
        CheckpointError: the ancestor has another architecture, or class names that differ only in their spelling.
    """
    _require_architecture(ancestor, config)
    _require_spelling(ancestor, classes)
    wanted = model.state_dict()
    notes = [*_note_rows(wanted, ancestor, config), *_note_parts(wanted, ancestor)]
    model.load_state_dict({**wanted, **_transfer(wanted, ancestor, config, classes)})
    known = ancestor.classes or ()
    return InitReport(
        matched=tuple(name for name in classes if name in known),
        new=tuple(name for name in classes if name not in known),
        dropped=tuple(name for name in known if name not in classes),
        notes=tuple(notes),
    )


def _transfer(
    wanted: Mapping[str, Tensor], ancestor: Ancestor, config: Config, classes: Sequence[str]
) -> dict[str, Tensor]:
    """Make the values of all tensors that both detectors have."""
    ours = label_rows(wanted, classes, architecture_of(config))
    theirs = label_rows(ancestor.weights, ancestor.classes, ancestor.settings)
    loaded = {}
    for name in wanted.keys() & ancestor.weights.keys():
        found = ancestor.weights[name]
        if name in ours:
            loaded[name] = transfer_rows(name, wanted[name], found, (ours[name], theirs[name]), ancestor.path)
        elif found.shape == wanted[name].shape:
            loaded[name] = found
        else:
            raise CheckpointError(
                f"{ancestor.path}: another architecture: {name} has shape {tuple(found.shape)} instead of "
                f"{tuple(wanted[name].shape)}"
            )
    return loaded


def _require_architecture(ancestor: Ancestor, config: Config) -> None:
    there, here = ancestor.settings, architecture_of(config)
    other = [key for key in ARCHITECTURE if key in there and there[key] != here[key]]
    if other:
        values = "; ".join(
            f"{key} is {to_word(there[key])} in the detector, {to_word(here[key])} in the configuration"
            for key in other
        )
        remedy = " ".join(f"{key}={to_word(there[key])}" for key in other)
        raise CheckpointError(
            f"{ancestor.path}: another architecture: {values}; set {remedy}, or choose another detector"
        )


def _require_spelling(ancestor: Ancestor, classes: Sequence[str]) -> None:
    """Refuse class names that are the same but for case, spaces, hyphens and underscores."""
    known = ancestor.classes or ()
    unmatched = {_plain(name): name for name in known if name not in classes}
    pairs = [
        f"{unmatched[_plain(name)]!r} in the detector, {name!r} in the data"
        for name in classes
        if name not in known and _plain(name) in unmatched
    ]
    if pairs:
        raise CheckpointError(
            f"{ancestor.path}: class names that differ only in case or separators: {', '.join(pairs)}; spell them "
            "alike in the annotations (and in data.classes if it is set), or in data.classes of the config.yaml of a "
            "copy of that checkpoint"
        )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def _note_parts(wanted: Mapping[str, Tensor], ancestor: Ancestor) -> list[str]:
    """Name the parts of one detector alone.

    Raises:
        CheckpointError: tensors are missing or left over within a part that both have.
    """
    found, path = ancestor.weights, ancestor.path
    new, missing = _parts_of(wanted.keys() - found.keys(), found)
    unused, extra = _parts_of(found.keys() - wanted.keys(), wanted)
    faults = [f"{name}: missing" for name in missing] + [f"{name}: not in the model" for name in extra]
    if faults:
        raise CheckpointError(
            f"{path}: another architecture: {len(faults)} tensors do not fit the model: "
            + _list_some(sorted(faults), limit=5)
        )
    return [
        *([f"starting afresh, as the ancestor has none: {_list_some(new)}"] if new else []),
        *([f"not used, as the model has none: {_list_some(unused)}"] if unused else []),
    ]


def _parts_of(names: set[str], others: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Separate tensors of parts that the others lack altogether, given as parts, from tensors on their own."""
    parts, alone = set(), []
    for name in names:
        part = PART.match(name)
        whole = [part[1], part[1].partition(".high_level")[0]] if part else []
        absent = [one for one in whole if not any(other.startswith(f"{one}.") for other in others)]
        if absent:
            parts.add(min(absent, key=len))
        elif not name.endswith(UNCOUNTED):
            alone.append(name)
    return sorted(parts), alone


def _note_rows(wanted: Mapping[str, Tensor], ancestor: Ancestor, config: Config) -> list[str]:
    """Describe other numbers of queries, other anchors, and rows of unknown meaning."""
    notes = []
    name = f"{QUERY_ROWS}weight"
    before, after = len(ancestor.weights[name]), len(wanted[name])
    if before != after:
        notes.append(f"queries {'cut' if after < before else 'extended'} from {before} to {after}")
    if ancestor.classes is None:
        notes.append(f"class rows start afresh, as {ancestor.path.name} does not name its classes")
    if not any(key.startswith(DENSE_BOX_ROWS) for key in wanted.keys() & ancestor.weights.keys()):
        return notes
    if ancestor.anchors is None:
        return [*notes, f"anchor rows start afresh, as {ancestor.path.name} does not name its anchors"]
    ours, theirs = set(anchors_of(architecture_of(config)) or ()), set(ancestor.anchors)
    if ours != theirs:
        notes.append(f"anchors: {len(ours & theirs)} matched, {len(ours - theirs)} new, {len(theirs - ours)} dropped")
    return notes


def _list_some(names: Sequence[str], limit: int = NAMED) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
