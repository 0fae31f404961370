"""Annotations of configuration fields: the roles of a key and its former name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Role(Enum):
    """Role of a key. A key without roles is a part of the run's identity and can be searched."""

    RUNTIME = auto()
    """Place and manner of the computation, without effect on its result; it may change when the run is resumed."""
    DATA = auto()
    """Selection of the data; digests of the data that was read are compared instead of the value."""
    SHARED = auto()
    """Setting that is the same for all trials of a sweep."""
    SCHEDULABLE = auto()
    """Setting that population-based training may change between epochs, because the weights stay usable."""
    INFERENCE = auto()
    """Setting that changes the detections of a trained detector."""


@dataclass(frozen=True, init=False)
class Roles:
    """Roles of a key, or of all keys of a section that have no roles of their own.

    Args:
        roles: roles of the key; none cancels those of the section.
    """

    roles: frozenset[Role]

    def __init__(self, *roles: Role) -> None:
        object.__setattr__(self, "roles", frozenset(roles))


@dataclass(frozen=True)
class RenamedFrom:
    """Former key of a field, for messages that name the new one.

    Attributes:
        key: dotted key from the root.
    """

    key: str
