"""A version of a registered model, read from the tags that `pipelines.registry.register` wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from mrqm.evaluation import ProtocolName
from pipelines.registry.lineage import VIEW

DATA = "data.digest"
REGISTERED_AS = "registered.as"
"""Tag of a version with its model's name at registration."""
PROTOCOLS = tuple(f"{name}/" for name in get_args(ProtocolName))
DIGEST_DIGITS = 12
"""Number of displayed digits of a digest."""


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        name: name of the registered model.
        number: number of the version.
        aliases: aliases that point at the version.
        created: time of registration, local time.
        run_id: id of the MLflow run that trained it.
        source: URI of the logged model.
        tags: all tags of the version.
    """

    name: str
    number: str
    aliases: tuple[str, ...]
    created: datetime
    run_id: str | None
    source: str
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"{printable(self.name)} version {self.number}"

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics by name, such as `coco/AP`, in alphabetical order; see `not_numbers`."""
        numbers = {key: _number(self.tags[key]) for key in sorted(self.tags) if key.startswith(PROTOCOLS)}
        return {key: value for key, value in numbers.items() if value is not None}

    @property
    def not_numbers(self) -> list[str]:
        """Tags that are named like metrics, such as `coco/note`, but have no number as value."""
        return sorted(key for key in self.tags if key.startswith(PROTOCOLS) and _number(self.tags[key]) is None)

    def conditions(self, protocol: str) -> dict[str, str | None]:
        """Return the conditions of the metrics under a protocol, besides the model; None for an unknown one."""
        return {key: self.tags.get(key) for key in (f"protocol.{protocol}", DATA, VIEW)}


def differences(first: Version, second: Version, protocol: str) -> list[str]:
    """List the reasons why metrics of two versions are not comparable.

    Args:
        first: a version.
        second: another version.
        protocol: name of the evaluation protocol.

    Returns:
        One line for each reason; empty if the metrics are comparable.
    """
    ours, theirs = first.conditions(protocol), second.conditions(protocol)
    return [
        f"{key}: {_shown(key, ours[key])} (version {first.number}), "
        f"{_shown(key, theirs[key])} (version {second.number})"
        for key in ours
        if ours[key] is None or ours[key] != theirs[key]
    ]


def printable(text: str) -> str:
    """Escape control characters of untrusted text, so that it is one line and does not control the terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isinf(value) else value


def _shown(key: str, value: str | None) -> str:
    return "unknown" if value is None else printable(value[:DIGEST_DIGITS] if key == DATA else value)
