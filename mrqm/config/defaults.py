"""Defaults for keys that are absent from configurations of other versions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from mrqm.config.sections.config import Config
from mrqm.config.sections.section import Section, section_type


def fill_defaults(values: Mapping[str, Any], section: type[Section] = Config) -> dict[str, Any]:
    """Add every absent key with its default, also within sections, without validation.

    Args:
        values: nested settings, as read from JSON or YAML.
        section: section type of the settings.

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
