"""Files that are not YAML, not in UTF-8, or have duplicate keys, for every command that reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mrqm.__main__ import app
from mrqm.config.yaml_file import YamlError, parse_yaml, read_yaml

FAULTS = [
    (b"data: {root: caf\xe9}\n", "line 1: not UTF-8 text .byte 0xe9.; save the file as UTF-8"),
    (b"a: 1\n\nname: \xbf\xcd\n", "line 3: not UTF-8 text"),
    (b"a: [1\n b: {\n", "not valid YAML: line 2, column 3: expected"),
    (b"a:\n\tb: 1\n", "not valid YAML: line 2, column 1: found character"),
    (b"data: {root: a}\noptim: {}\ndata: {root: b}\n", "line 3, column 1: data is given twice, first in line 1"),
    (b"optim: {lr: 1, lr: 2}\n", "lr is given twice"),
    (b"name: 2024-99-99\n", "not valid YAML: month must be in 1..12"),
    (b"seed: !!int ''\n", "not valid YAML"),
    (b"when: !!timestamp noon\n", "not valid YAML"),
    (b"[" * 5000, "nested too deeply"),
    (b"a: \x01\n", "character '.x01' is not allowed"),
    (b"a: *nowhere\n", "undefined alias"),
    (b"a: 1\n---\nb: 2\n", "another document"),
    (b"a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
]


@pytest.mark.parametrize(("content", "message"), FAULTS)
def test_one_sentence_names_the_file_the_place_and_the_fault(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(YamlError, match=message) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_the_encoding(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes("name: café".encode(encoding))
    assert read_yaml(path) == {"name": "café"}


def test_what_is_in_order_is_read_as_pyyaml_reads_it() -> None:
    text = "base: &base {lr: 1e-3, layers: [1, 2]}\nmore: {<<: *base, lr: 2}\nempty:\nother: {lr: 1}\n"
    assert parse_yaml(text) == yaml.safe_load(text)
    for path in [*Path("configs").glob("*.yaml"), *Path("tune/spaces").glob("*.yaml")]:
        assert read_yaml(path) == yaml.safe_load(path.read_text())


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(YamlError, match=r"nowhere\.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "nowhere.yaml")


GOOD = b"model: {backbone: {weights: none, frozen_batch_norm: false}}\n"
SPACE = b"{parameters: {optim.lr: {uniform: [0.1, 0.2]}}, budget: {trials: 2}}\n"
TRAIN, TUNE = ["train", "-c", "config.yaml"], ["tune", "-c", "config.yaml", "-s", "space.yaml"]


@pytest.mark.parametrize(("content", "message"), [FAULTS[0], FAULTS[2], FAULTS[4]])
@pytest.mark.parametrize(
    ("words", "bad"),
    [
        (TRAIN, "config.yaml"),
        (TUNE, "config.yaml"),
        (TUNE, "space.yaml"),
        (["submit", "--", *TRAIN], "config.yaml"),
        (["submit", "--", *TUNE], "config.yaml"),
        (["submit", "--", *TUNE], "space.yaml"),
        (["submit", "--", "evaluate", "models:/a/1", "-c", "config.yaml"], "config.yaml"),
    ],
)
def test_no_command_shows_a_traceback(
    words: list[str], bad: str, content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"config.yaml": GOOD, "space.yaml": SPACE, bad: content}.items():
        (tmp_path / name).write_bytes(text)
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 2, ended.output
    assert ended.output.startswith("error: ") and ended.output.count("\n") == 1
    assert bad in ended.output
    assert re.search(message, ended.output)
