"""Base class of all sections."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

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


def section_type(annotation: Any) -> type[Section] | None:
    """Return the section type that a field holds, also one that may be null, or None for a field with a value."""
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), None)
