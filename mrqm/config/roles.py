"""Queries for the roles of configuration keys, which are annotated on their fields."""

from __future__ import annotations

from mrqm.config.sections.annotations import RenamedFrom, Role, Roles
from mrqm.config.sections.config import Config
from mrqm.config.sections.section import Section, section_type, walk_fields


def has_role(key: str, role: Role) -> bool:
    """Tell whether a key has a role, its own or its section's; a section has the roles that all of its keys have.

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
    if section is not None:
        return all(has_role(f"{key}.{inner}", role) for inner in all_keys(section))
    return role in roles


def keys_with(role: Role) -> list[str]:
    """List the dotted keys of all values that have a role."""
    return [key for key in all_keys(Config) if has_role(key, role)]


def all_keys(section: type[Section]) -> list[str]:
    """List the dotted keys of all values of a section and of the sections within it."""
    return [key for key, field in walk_fields(section) if section_type(field.annotation) is None]


def renamed_keys(section: type[Section]) -> dict[str, str]:
    """Map former dotted keys of a section, and of the sections within it, to the present ones."""
    return {
        one.key: key for key, field in walk_fields(section) for one in field.metadata if isinstance(one, RenamedFrom)
    }
