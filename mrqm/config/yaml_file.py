"""Reading of YAML files with one-sentence messages that name fault and place.

A duplicate key is refused too; YAML itself would silently take the last one.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from mrqm.errors import UserError

_OF_VALUES = (ValueError, ArithmeticError, LookupError, TypeError, AttributeError)
"""Errors that PyYAML raises for invalid dates and numbers: `2024-99-99`, `!!int ''`, `!!timestamp noon`."""


class YamlError(UserError):
    """A file that cannot be read as YAML; the message names the file, the place and the remedy."""


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
        YamlError: the file cannot be read, is of another encoding, or is not valid YAML.
    """
    try:
        return parse_yaml(Path(path).read_bytes())
    except OSError as error:
        raise YamlError(f"{path}: cannot be read: {error.strerror}") from error
    except YamlError as error:
        raise YamlError(f"{path}: {error}") from error


def parse_yaml(text: str | bytes) -> Any:
    """Parse a YAML text.

    Raises:
        YamlError: the text is not valid YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.reader.ReaderError as error:
        raise YamlError(_describe_characters(error, text)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise YamlError(f"not valid YAML: {place}{error.problem or error.context}") from error
    except RecursionError as error:
        raise YamlError("not valid YAML: brackets are nested too deeply") from error
    except (yaml.YAMLError, *_OF_VALUES) as error:
        raise YamlError(f"not valid YAML: {error}") from error


def _describe_characters(error: yaml.reader.ReaderError, text: str | bytes) -> str:
    if isinstance(text, bytes) and error.encoding != "unicode":
        line = text.count(b"\n", 0, error.position) + 1
        return f"line {line}: not UTF-8 text (byte 0x{text[error.position]:02x}); save the file as UTF-8"
    return f"not valid YAML: the character {chr(error.character)!r} is not allowed"


class _Loader(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping after checking its keys."""
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                problem = f"{key.value} is given twice, first in line {lines[name]}; leave out one"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            lines[name] = line
        return super().construct_mapping(node, deep)
