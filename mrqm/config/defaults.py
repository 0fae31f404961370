"""Configurations that other versions wrote: keys that they do not have yet have their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from mrqm.config.sections.config import Config
from mrqm.config.sections.section import Section, section_type


def fill_defaults(values: Mapping[str, Any], section: type[Section] = Config) -> dict[str, Any]:
    """Add every key that is absent with its default, also within sections; nothing is validated.

    Args:
        values: nested, as JSON or YAML have them.
        section: the type of which they are values.

    Returns:
        The values and the defaults of the rest; keys that the section does not know stay.
    """
    filled = {**_defaults(section), **values}
    for name, field in section.model_fields.items():
        inner = section_type(field.annotation)
        if inner is not None and isinstance(filled.get(name), Mapping):
            filled[name] = fill_defaults(filled[name], inner)
    return filled


@cache
def _defaults(section: type[Section]) -> dict[str, Any]:
    return section.model_construct().model_dump(mode="json")
