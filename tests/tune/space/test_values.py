import json
from typing import Any

import pytest
import yaml

from tune.space.values import as_number, as_word, canonical, read_numbers


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
    assert canonical(yaml.safe_load(as_word(value))) == canonical(value)
