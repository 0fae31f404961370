"""A version of a registered model, as the tags tell it that `pipelines.registry.register` wrote."""

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
"""Tag of a version: the name that its model had when it was registered."""
PROTOCOLS = tuple(f"{name}/" for name in get_args(ProtocolName))
DIGEST_DIGITS = 12
"""Digits of a digest that people are shown."""


@dataclass(frozen=True)
class Version:
    """One version.

    Attributes:
        name: of the registered model.
        number: of the version.
        aliases: that point at it.
        created: when it was registered, local time.
        run_id: of the MLflow run that trained it.
        source: URI of what was registered.
        tags: all of them.
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
        """As `coco/AP`, in alphabetical order; see `not_numbers`."""
        numbers = {key: _number(self.tags[key]) for key in sorted(self.tags) if key.startswith(PROTOCOLS)}
        return {key: value for key, value in numbers.items() if value is not None}

    @property
    def not_numbers(self) -> list[str]:
        """Tags of others that are called as metrics are, such as `coco/note`, and hold no number."""
        return sorted(key for key in self.tags if key.startswith(PROTOCOLS) and _number(self.tags[key]) is None)

    def conditions(self, protocol: str) -> dict[str, str | None]:
        """Conditions of the figures under a protocol, beside the model; None for one that is not known."""
        return {key: self.tags.get(key) for key in (f"protocol.{protocol}", DATA, VIEW)}


def differences(first: Version, second: Version, protocol: str) -> list[str]:
    """Reasons, a line for each, that make figures of two versions under a protocol incomparable."""
    ours, theirs = first.conditions(protocol), second.conditions(protocol)
    return [
        f"{key}: {_shown(key, ours[key])} (version {first.number}), "
        f"{_shown(key, theirs[key])} (version {second.number})"
        for key in ours
        if ours[key] is None or ours[key] != theirs[key]
    ]


def printable(text: str) -> str:
    """A stranger's text in one line, without characters that steer a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isinf(value) else value


def _shown(key: str, value: str | None) -> str:
    return "unknown" if value is None else printable(value[:DIGEST_DIGITS] if key == DATA else value)
