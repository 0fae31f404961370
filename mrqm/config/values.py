"""Conversion and comparison of values of configuration keys: those of pydantic, JSON, YAML and MLflow's text.

to_plain((640, Path("runs")))            [640, "runs"]           types that JSON and YAML have
to_line({"size": [640, 640]})            {size: [640, 640]}      one line of a YAML file
to_word(["car", "bus"])                  [car,bus]               after `key=` on the command line
canonical("1e-4") == canonical(0.0001)                           equal values in any form
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mrqm.config.sections.section import Section
from mrqm.config.yaml_file import YamlError, parse_yaml

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_SCIENTIFIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def to_plain(value: Any) -> Any:
    """Convert a value to types of JSON and YAML: sections to mappings, tuples to lists, paths to text."""
    if isinstance(value, Section):
        return value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        return [to_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: to_plain(each) for key, each in value.items()}
    return str(value) if isinstance(value, Path) else value


def to_line(value: Any) -> str:
    """Write a value as one line of YAML that `parse_yaml` reads as `to_plain(value)`."""
    return _write(to_plain(value), comma=", ")


def to_word(value: Any) -> str:
    """Write a value as short YAML for the command line, without spaces between the elements of lists."""
    return _write(to_plain(value), comma=",")


def read_numbers(value: Any) -> Any:
    """Turn text such as `1e-3`, in lists and sections too, into the number that it is in YAML 1.2.

    PyYAML follows YAML 1.1, where a number in scientific notation needs a point and a signed exponent.
    """
    if isinstance(value, Mapping):
        return {key: read_numbers(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [read_numbers(part) for part in value]
    return float(value) if isinstance(value, str) and _SCIENTIFIC.fullmatch(value) else value


def as_number(value: Any) -> float | None:
    """Convert a number or its text to a float; None for anything else."""
    is_number = isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.fullmatch(value))
    return float(value) if is_number and not isinstance(value, bool) else None


def canonical(value: Any) -> str:
    """Return a text that is the same for equal values: 2 and 2.0, tuple and list, sections in any order of keys."""
    return json.dumps(_normalise(to_plain(value)), sort_keys=True)


def _normalise(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _normalise(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_normalise(part) for part in value]
    number = as_number(value)
    return value if number is None else number


def _write(value: Any, comma: str) -> str:
    if isinstance(value, str) and _reads_as(value, value):  # also where it would be quoted within a list
        return value
    return _write_part(value, comma)


def _write_part(value: Any, comma: str) -> str:
    """Write a value within a list or a section."""
    if isinstance(value, Mapping):
        pairs = (f"{_write_part(key, comma)}: {_write_part(each, comma)}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{comma.join(_write_part(each, comma) for each in value)}]"
    quotes = '"' if isinstance(value, str) and not _reads_as(f"[{value}]", [value]) else None
    text = yaml.safe_dump([value], default_style=quotes, default_flow_style=True, allow_unicode=True, width=math.inf)
    return text.removesuffix("\n")[1:-1]


def _reads_as(text: str, value: Any) -> bool:
    try:
        return bool(parse_yaml(text) == value)
    except YamlError:
        return False
