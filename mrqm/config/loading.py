"""Loading of configurations from files and overrides, with one message about all faults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mrqm.config.dotted import section_of
from mrqm.config.messages import as_override, describe_faults
from mrqm.config.sections.config import Config
from mrqm.config.yaml_file import YamlError, parse_yaml, read_yaml
from mrqm.errors import UserError
from mrqm.redaction import redact


class ConfigError(UserError):
    """A configuration that cannot be used; the message names every key at fault."""


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file, apply overrides and validate the whole once.

    Args:
        path: YAML file with sections such as `model:`.
        overrides: `key.path=value` settings; they replace values of the file, later ones replace earlier ones.

    Returns:
        The configuration.

    Raises:
        ConfigError: the file is missing or not YAML, an override is malformed, or a value is not allowed.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file")
    try:
        values = read_yaml(path) or {}
    except YamlError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections such as `model:`, found {type(values).__name__}")
    return make_config(values, overrides, source=str(path))


def make_config(values: Mapping[str, Any], overrides: Iterable[str] = (), source: str = "configuration") -> Config:
    """Validate nested values with overrides applied; see `load_config`.

    Args:
        values: nested settings; they are not changed.
        overrides: `key.path=value` settings that replace them.
        source: name of the values' origin, for the message.

    Returns:
        The configuration.

    Raises:
        ConfigError: an override is malformed, or a value is not allowed.
    """
    merged = _copy_sections(values)
    for override in overrides:
        _apply_override(merged, override)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        lines = describe_faults(error, Config, merged, as_override)
        raise ConfigError(redact("\n".join([f"{source} is not usable:", *(f"  {line}" for line in lines)]))) from error


def _copy_sections(values: Any) -> Any:
    return {key: _copy_sections(value) for key, value in values.items()} if isinstance(values, Mapping) else values


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(redact(f"override {override!r}: expected key.path=value, for example optim.lr=1e-4"))
    try:
        section, leaf = section_of(values, key)
        section[leaf] = parse_yaml(text)
    except LookupError as error:
        raise ConfigError(redact(f"override {override!r}: {error} is a value, not a section")) from error
    except YamlError as error:
        raise ConfigError(redact(f"override {override!r}: {text!r} is not a YAML value")) from error
