"""Dotted keys, such as `data.tile.size`, of nested values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def join(keys: Iterable[str | int]) -> str:
    """Join keys as users write them, such as `data.tile.size`."""
    return ".".join(map(str, keys))


def lies_in(key: str, section: str) -> bool:
    """Tell if a dotted key equals another one or belongs to its section.

    Args:
        key: dotted key, such as `data.tile.size`.
        section: dotted key of a section, such as `data.tile`.

    Returns:
        True if it does.
    """
    return f"{key}.".startswith(f"{section}.")


def walk(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys and the sections of nested values, each by its dotted key, a section before its keys.

    Args:
        values: values by section.
        prefix: dotted key of `values`, with a dot at its end.

    Returns:
        Iterator over (dotted key, value) pairs.
    """
    for key, value in values.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from walk(value, f"{prefix}{key}.")


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested sections into values by dotted key."""
    return {key: value for key, value in walk(values) if not isinstance(value, Mapping)}


def section_of(nested: dict[str, Any], key: str, *, replace: bool = False) -> tuple[dict[str, Any], str]:
    """Find the section of a dotted key; sections that are missing or null are made.

    Args:
        nested: values by section, changed in place.
        key: dotted key, such as `data.tile.size`.
        replace: permission to replace a value by a section of the same name.

    Returns:
        The section of the key, and the key's last part.

    Raises:
        LookupError: a part of the key names a value instead of a section; the message is that part.
    """
    *sections, leaf = key.split(".")
    for section in sections:
        inner = nested.get(section)
        if not isinstance(inner, dict):
            if inner is not None and not replace:
                raise LookupError(section)
            inner = nested[section] = {}
        nested = inner
    return nested, leaf
