"""Conversion and comparison of searched keys' values from YAML, a journal's JSON and MLflow's text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from mrqm.config.yaml_file import YamlError, parse_yaml

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
SCIENTIFIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def read_numbers(value: Any) -> Any:
    """Turn text such as `1e-3`, in lists and sections too, into the number that it is in YAML 1.2.

    PyYAML follows YAML 1.1, where a number in scientific notation needs a point and a signed exponent.
    """
    if isinstance(value, Mapping):
        return {key: read_numbers(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [read_numbers(part) for part in value]
    return float(value) if isinstance(value, str) and SCIENTIFIC.fullmatch(value) else value


def as_number(value: Any) -> float | None:
    """Convert a number or its text to a float; None for anything else."""
    is_number = isinstance(value, int | float) or (isinstance(value, str) and NUMBER.fullmatch(value))
    return float(value) if is_number and not isinstance(value, bool) else None


def canonical(value: Any) -> str:
    """Return a text that is the same for equal values: 2 and 2.0, tuple and list, sections in any order of keys."""
    return json.dumps(_normalise(value), sort_keys=True)


def lies_in(key: str, section: str) -> bool:
    """Tell if a dotted key equals another one or belongs to its section.

    Args:
        key: dotted key, such as `data.tile.size`.
        section: dotted key of a section, such as `data.tile`.

    Returns:
        True if it does.
    """
    return f"{key}.".startswith(f"{section}.")


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys and the sections of nested values, each by its dotted key.

    Args:
        values: values by section.
        prefix: dotted key of `values`, with a dot at its end.

    Returns:
        Iterator over (dotted key, value) pairs.
    """
    for key, value in values.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")


def section_of(nested: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """Find the section of a dotted key; missing sections are made.

    Args:
        nested: values by section, changed in place.
        key: dotted key, such as `data.tile.size`.

    Returns:
        The section of the key, and the key's last part.
    """
    *sections, leaf = key.split(".")
    for section in sections:
        if not isinstance(nested.get(section), dict):
            nested[section] = {}
        nested = nested[section]
    return nested, leaf


def as_word(value: Any) -> str:
    """Write a value as short YAML for the command line; text has no quotes where it means the same without."""
    with suppress(YamlError):
        if isinstance(value, str) and parse_yaml(value) == value:
            return value
    return json.dumps(value)


def _normalise(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _normalise(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_normalise(part) for part in value]
    number = as_number(value)
    return value if number is None else number
