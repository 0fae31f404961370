"""Dotted keys name what nested values hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrqm.config.dotted import flatten, lies_in, section_of, walk

NAMES = st.sampled_from(["a", "b", "ab", "c_d"])
NESTED = st.recursive(
    st.none() | st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=8,
).filter(lambda values: isinstance(values, dict))


def test_sections_flatten_to_dotted_keys() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": [2]}, "e": None}) == {"a.b.c": 1, "a.d": [2], "e": None}


@given(NESTED)
def test_what_is_flattened_can_be_nested_again(nested: dict[str, Any]) -> None:
    again: dict[str, Any] = {}
    for key, value in flatten(nested).items():
        section, leaf = section_of(again, key)
        section[leaf] = value
    assert again == nested


@given(NESTED)
def test_a_walk_comes_to_sections_and_to_what_lies_in_them(nested: dict[str, Any]) -> None:
    walked = dict(walk(nested))
    assert {key: value for key, value in walked.items() if not isinstance(value, dict)} == flatten(nested)
    for section, values in walked.items():
        inner = {key for key in walked if lies_in(key, section)}
        below = {f"{section}.{key}" for key, _ in walk(values)} if isinstance(values, dict) else set()
        assert inner == {section, *below}


@pytest.mark.parametrize(
    ("key", "section", "expected"),
    [("a.b", "a", True), ("a", "a", True), ("ab.c", "a", False), ("a", "a.b", False)],
)
def test_a_key_lies_in_its_sections(key: str, section: str, expected: bool) -> None:
    assert lies_in(key, section) is expected


def test_sections_that_are_absent_or_null_are_made() -> None:
    nested: dict[str, Any] = {"tile": None}
    for key in ("tile.size", "optim.schedule.name"):
        section, leaf = section_of(nested, key)
        section[leaf] = 1
    assert nested == {"tile": {"size": 1}, "optim": {"schedule": {"name": 1}}}


def test_a_value_on_the_way_is_named_or_replaced() -> None:
    nested: dict[str, Any] = {"a": {"b": 3}}
    with pytest.raises(LookupError, match="b"):
        section_of(nested, "a.b.c")
    section, leaf = section_of(nested, "a.b.c", replace=True)
    section[leaf] = 4
    assert nested == {"a": {"b": {"c": 4}}}
