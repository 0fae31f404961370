"""The generated pages of the reference: every key and every command."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import typer

from mrqm.__main__ import app
from mrqm.config import Config, Section
from mrqm.config.sections.section import section_type

from ..pages import ROOT


def render(name: str) -> str:
    """Render a page with its module in docs/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.render())


def dotted_keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """List the keys below a section that hold values."""
    for name, field in section.model_fields.items():
        kind = section_type(field.annotation)
        yield from dotted_keys(kind, f"{prefix}{name}.") if kind else [f"{prefix}{name}"]


def full_names(command: Any, name: str = "mrqm") -> Iterator[str]:
    """List a command and the commands below it."""
    yield name
    for word, below in getattr(command, "commands", {}).items():
        yield from full_names(below, f"{name} {word}")


def test_every_key_has_a_row_with_a_meaning() -> None:
    rows = dict(line.strip("| ").split("|")[::2] for line in render("make_configuration").splitlines() if "` |" in line)
    keys = set(dotted_keys(Config))
    assert len(keys) > 80
    assert {key for key in keys if f"`{key}` " not in rows} == set()
    assert {key for key, meaning in rows.items() if not meaning.strip()} == set()


def test_every_command_has_a_section_and_its_options() -> None:
    page = render("make_commands")
    names = set(full_names(typer.main.get_command(app))) - {"mrqm"}
    assert len(names) > 20
    assert {name for name in names if f"# `{name}`\n" not in page} == set()
    assert page.count("`-c, --config <path>`") > 3
