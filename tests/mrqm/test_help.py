"""Help at 80 columns: no part of a command's text is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mrqm.__main__ import app


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


COMMANDS = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(words) or "mrqm" for words, _ in COMMANDS])
def test_help_has_every_word_in_80_columns(words: tuple[str, ...], command: Any) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"}).output
    assert max(map(len, shown.splitlines())) <= 80
    assert not re.search(r"\w(…|\.\.\.)$", shown, re.MULTILINE), "something is cut off"
    together = squeeze(shown)
    texts = [command.help or "", *(parameter.help or "" for parameter in command.params)]
    texts += [inner.help.partition(".")[0] for inner in getattr(command, "commands", {}).values()]
    defaults = [parameter.show_default for parameter in command.params if isinstance(parameter.show_default, str)]
    assert [text for text in [*texts, *defaults] if squeeze(text) not in together] == []
    assert "[default:" not in "".join(texts), "Rich takes it for markup and deletes it: use show_default"


def squeeze(text: str) -> str:
    """Remove the blanks of a text, because help breaks its lines."""
    return "".join(text.split())


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["train", "configs/demo.yaml", "optim.lr=1e-3"], "train -c configs/demo.yaml optim.lr=1e-3"),
        (["plan", "a.yml"], "plan -c a.yml"),
        (["tune", "a.yaml", "b.yaml"], "tune -c a.yaml -s b.yaml"),
    ],
)
def test_a_file_without_its_option_is_answered_with_the_command_that_was_meant(words: list[str], meant: str) -> None:
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert f"did you mean: mrqm {meant}" in result.output.replace("root ", "mrqm ")
