"""Values keep their meaning through every form that they have: pydantic's, JSON's, YAML's, and text."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mrqm.config import Config, make_config
from mrqm.config.dotted import flatten
from mrqm.config.values import as_number, canonical, read_numbers, to_line, to_plain, to_word
from mrqm.config.yaml_file import parse_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORDS = st.sampled_from(
    ["true", "null", "~", "1e-3", "12", "[", "a, b", "a: b", "# x", "- x", "'", '"', " x ", "", "2026-01-02"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | WORDS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | WORDS, inner, max_size=3), max_leaves=8
)


@given(VALUES)
def test_what_is_written_as_yaml_is_read_as_it_was(value: Any) -> None:
    for written in (to_word(value), to_line(value)):
        assert parse_yaml(written) == value
        assert type(parse_yaml(written)) is type(value)
        assert "\n" not in written


@given(VALUES)
def test_a_value_is_equal_to_itself_after_every_way(value: Any) -> None:
    ways = [value, json.loads(json.dumps(value)), parse_yaml(to_word(value)), read_numbers(value), as_tuples(value)]
    assert {canonical(each) for each in ways} == {canonical(value)}


@pytest.mark.parametrize("key", list(flatten(Config().model_dump())))
def test_every_key_of_the_configuration_comes_back_from_the_command_line(key: str) -> None:
    value = flatten(Config().model_dump())[key]
    (word,) = shlex.split(shlex.quote(f"{key}={to_word(value)}"))
    assert flatten(make_config({}, [word]).model_dump())[key] == value


def test_a_section_is_plain_as_json_has_it() -> None:
    config = Config()
    assert to_plain(config) == config.model_dump(mode="json") == json.loads(config.model_dump_json())
    assert to_plain({"a": (Path("x"), config.optim)}) == {"a": ["x", config.optim.model_dump(mode="json")]}


@pytest.mark.parametrize(
    ("value", "word", "line"),
    [
        ("text", "text", "text"),
        (["car", "bus"], "[car,bus]", "[car, bus]"),
        (["a, b", "true"], '["a, b","true"]', '["a, b", "true"]'),
        ({"size": (640, 640)}, "{size: [640,640]}", "{size: [640, 640]}"),
        (Path("runs"), "runs", "runs"),
        (None, "null", "null"),
        ("true", '"true"', '"true"'),
        ("größe", "größe", "größe"),
    ],
)
def test_values_are_written_as_users_write_them(value: Any, word: str, line: str) -> None:
    assert (to_word(value), to_line(value)) == (word, line)


@pytest.mark.parametrize("text", ["1e-3", "1E5", "-2e+4", ".5e2", "3.e1"])
def test_numbers_in_scientific_notation_are_numbers(text: str) -> None:
    assert read_numbers(yaml.safe_load(f"{{a: [{text}], b: {{c: {text}}}}}")) == {
        "a": [float(text)],
        "b": {"c": float(text)},
    }


@pytest.mark.parametrize("text", ["sae", "1e", "e3", "1e-3x", "nan", "inf", "12", "0x1e3"])
def test_words_stay_words(text: str) -> None:
    assert read_numbers(text) == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (2, 2.0),
        ("1e-4", 0.0001),
        ((1, "a"), [1.0, "a"]),
        ({"a": 1, "b": (2,)}, {"b": [2.0], "a": 1}),
        (None, None),
        (True, True),
    ],
)
def test_equal_values_have_one_text_also_after_a_journal(one: Any, other: Any) -> None:
    assert canonical(one) == canonical(other) == canonical(json.loads(json.dumps(one)))


def test_different_values_have_different_texts() -> None:
    values = [None, True, False, 0, 1, 2, "sae", "true", "null", [], [1], {}, {"a": 1}, {"a": None}, "", [None]]
    assert len({canonical(value) for value in values}) == len(values)


@pytest.mark.parametrize(("value", "number"), [("0.5", 0.5), (3, 3.0), ("1e-3", 1e-3), (True, None), ("x", None)])
def test_text_of_a_number_is_one(value: Any, number: float | None) -> None:
    assert as_number(value) == number


@pytest.mark.parametrize("value", ["sae", "true", "null", "1e-4", "12", None, True, 1.5e-05, [1, "a"], {"a": None}])
def test_words_of_the_command_line_are_read_as_they_were(value: Any) -> None:
    assert canonical(yaml.safe_load(to_word(value))) == canonical(value)


def as_tuples(value: Any) -> Any:
    """The same value as pydantic holds it."""
    if isinstance(value, dict):
        return {key: as_tuples(each) for key, each in value.items()}
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value
