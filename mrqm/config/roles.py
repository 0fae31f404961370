"""Roles of configuration keys, as they are annotated on their fields."""

from __future__ import annotations

from collections.abc import Iterator

from mrqm.config.sections.annotations import RenamedFrom, Role, Roles
from mrqm.config.sections.config import Config
from mrqm.config.sections.section import Section, section_type


def has_role(key: str, role: Role) -> bool:
    """Tell whether a key has a role, its own or its section's.

    Args:
        key: dotted, of a value or of a section; it may lie within a value, such as `evaluation.area_bins.small`.
        role: the role.

    Returns:
        False for keys that do not exist, too.
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
    """Dotted keys of all values that have a role."""
    return [key for key in all_keys(Config) if has_role(key, role)]


def all_keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Dotted keys of all values of a section, and of the sections within it."""
    for name, field in section.model_fields.items():
        inner = section_type(field.annotation)
        if inner is None:
            yield f"{prefix}{name}"
        else:
            yield from all_keys(inner, f"{prefix}{name}.")


def renamed_keys(section: type[Section], prefix: str = "") -> dict[str, str]:
    """Former dotted keys of a section's fields and those within it, with the present ones."""
    renamed: dict[str, str] = {}
    for name, field in section.model_fields.items():
        renamed |= {one.key: f"{prefix}{name}" for one in field.metadata if isinstance(one, RenamedFrom)}
        if inner := section_type(field.annotation):
            renamed |= renamed_keys(inner, f"{prefix}{name}.")
    return renamed
