"""Queries for the roles of configuration keys, which are annotated on their fields."""

from __future__ import annotations

from collections.abc import Iterator

from mrqm.config.sections.annotations import RenamedFrom, Role, Roles
from mrqm.config.sections.config import Config
from mrqm.config.sections.section import Section, section_type


def has_role(key: str, role: Role) -> bool:
    """Tell whether a key has a role, its own or its section's.

    Args:
        key: dotted key of a value or a section; it may lie within a value, such as `evaluation.area_bins.small`.
        role: role to look for.

    Returns:
        True if the key exists and has the role.
    """
    section: type[Section] | None = Config
    roles = frozenset[Role]()
    for part in key.split("."):
        if section is None:
            break
        field = section.model_fields.get(part)
        if field is None:
            return False
        roles = next((one.roles for one in field.metadata if isinstance(one, Roles)), roles)
        section = section_type(field.annotation)
    return role in roles


def keys_with(role: Role) -> list[str]:
    """List the dotted keys of all values that have a role."""
    return [key for key in all_keys(Config) if has_role(key, role)]


def all_keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of all values of a section and of the sections within it.

    Args:
        section: section type.
        prefix: text before each key, such as `data.`.

    Yields:
        Dotted keys in the order of the fields.
    """
    for name, field in section.model_fields.items():
        inner = section_type(field.annotation)
        if inner is None:
            yield f"{prefix}{name}"
        else:
            yield from all_keys(inner, f"{prefix}{name}.")


def renamed_keys(section: type[Section], prefix: str = "") -> dict[str, str]:
    """Map former dotted keys of a section, and of the sections within it, to the present ones.

    Args:
        section: section type.
        prefix: text before each present key, such as `data.`.

    Returns:
        Present keys by former key.
    """
    renamed: dict[str, str] = {}
    for name, field in section.model_fields.items():
        renamed |= {one.key: f"{prefix}{name}" for one in field.metadata if isinstance(one, RenamedFrom)}
        if inner := section_type(field.annotation):
            renamed |= renamed_keys(inner, f"{prefix}{name}.")
    return renamed
