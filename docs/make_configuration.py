"""Make reference/configuration.md from the docstrings of the configuration's keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mrqm.config import Config, Section
from mrqm.config.sections.section import section_type

HEAD = """# Configuration

A run is described by a YAML file and by overrides on the command line, `key.path=value`, which take precedence. Every
key has a default, and the resolved configuration is saved with each checkpoint. Unknown keys, wrong types and values
out of range are refused before anything starts. This page is generated from the docstrings in `mrqm/config/sections/`.
"""


def render() -> str:
    """Render a table of keys for every section.

    Returns:
        The Markdown text of the page.
    """
    return "\n".join([HEAD, *_section(Config, "")])


def _section(section: type[Section], prefix: str) -> list[str]:
    """A table of one section's keys, then its sections."""
    nested = {name: kind for name, field in section.model_fields.items() if (kind := section_type(field.annotation))}
    heading = [f"## {prefix.rstrip('.')}", ""] if prefix else []
    rows = [
        f"| `{prefix}{name}` | `{_shown(field.get_default())}` | {' '.join((field.description or '').split())} |"
        for name, field in section.model_fields.items()
        if name not in nested or field.description
    ]
    table = ["| key | default | meaning |", "|---|---|---|", *rows, ""] if rows else []
    intro = [(section.__doc__ or "").strip(), ""] if prefix else []
    parts = [line for name, kind in nested.items() for line in _section(kind, f"{prefix}{name}.")]
    return [*heading, *intro, *table, *parts]


def _shown(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).strip().removesuffix("\n...").strip()
