"""Annotations of fields: the role of a key, and the key that it was before."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Role(Enum):
    """Role of a key; a key without any is a part of what a run is, and may be searched."""

    RUNTIME = auto()
    """Says where and how a run computes, not what: it may differ when the run is resumed."""
    DATA = auto()
    """Says which data is read: digests of what was read are compared instead."""
    SHARED = auto()
    """Is the same for all trials of a sweep."""
    SCHEDULABLE = auto()
    """May change between epochs: what was learned with another value stays usable (population-based training)."""
    INFERENCE = auto()
    """Changes what a trained detector finds."""


@dataclass(frozen=True, init=False)
class Roles:
    """The roles of a key, or of all keys of a section that have no roles of their own.

    Args:
        roles: none: those of the section do not hold for this key.
    """

    roles: frozenset[Role]

    def __init__(self, *roles: Role) -> None:
        object.__setattr__(self, "roles", frozenset(roles))


@dataclass(frozen=True)
class RenamedFrom:
    """The former dotted key of a field, which messages about it translate.

    Attributes:
        key: dotted, from the root.
    """

    key: str
