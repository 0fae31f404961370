"""Base class of all sections."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

from mrqm.redaction import holds_secret

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Frozen group of settings that refuses unknown keys and secrets, because settings are logged, kept and shown."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), validate_default=True
    )

    place_of_secrets: ClassVar[str] = (
        "AWS_ACCESS_KEY_ID, a profile, a role, or another source that the store's client reads"
    )
    """Sources of credentials that a message recommends instead of settings."""

    @field_validator("*")
    @classmethod
    def _holds_no_secret(cls, value: Any) -> Any:
        if not isinstance(value, BaseModel) and holds_secret(str(value)):
            raise ValueError(
                "the URI holds a password or token, and settings are logged, kept and shown; leave it to the "
                f"environment: {cls.place_of_secrets}"
            )
        return value


def walk_fields(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the fields of a section and of the sections within it, a section before its own.

    Args:
        section: section whose fields are wanted.
        prefix: dotted key of the section, with a dot at its end.

    Returns:
        Iterator over (dotted key, field) pairs.
    """
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", field
        if inner := section_type(field.annotation):
            yield from walk_fields(inner, f"{prefix}{name}.")


def section_type(annotation: Any) -> type[Section] | None:
    """Return the section that a field holds, also one that may be null; None for a field that holds a value."""
    kind = bare_type(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def bare_type(annotation: Any) -> Any:
    """Remove bounds and None from a type."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif len(members := union_members(annotation)) == 1 and members[0] is not annotation:
            annotation = members[0]
        else:
            return annotation


def union_members(annotation: Any) -> list[Any]:
    """List the types of a union without None, or the type itself if it is no union."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return [annotation]
    return [each for each in get_args(annotation) if each is not type(None)]
