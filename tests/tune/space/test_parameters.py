import random
from typing import Any

import pytest
from pydantic import ValidationError

from tune.space.parameters import Parameter


def make(**values: Any) -> Parameter:
    return Parameter.model_validate(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "exactly one of"),
        ({"choice": [1], "int": [1, 2]}, "exactly one of"),
        ({"uniform": [2, 1]}, r"must be \[least, most\]"),
        ({"loguniform": [0, 1]}, "must be above 0"),
        ({"choice": [1, 2], "step": 1}, "step belongs to"),
        ({"int": [1, 4], "step": 0.5}, "whole number"),
        ({"int": [1, 4], "when": "a.b <"}, "is no comparison"),
    ],
)
def test_what_is_no_parameter_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make(**values)


def test_numbers_may_be_written_as_yaml_reads_them() -> None:
    assert make(loguniform=["1e-4", "1e-2"]).range == (1e-4, 1e-2)


@pytest.mark.parametrize(
    ("values", "grid"),
    [
        ({"choice": ["a", None, 2]}, ("a", None, 2)),
        ({"int": [1, 3]}, (1, 2, 3)),
        ({"int": [300, 900], "step": 300}, (300, 600, 900)),
        ({"uniform": [0.4, 0.7], "step": 0.1}, (0.4, 0.5, 0.6, 0.7)),
        ({"uniform": [0, 1]}, None),
        ({"logint": [1, 100]}, None),
    ],
)
def test_what_can_be_counted_is_a_grid(values: dict[str, Any], grid: Any) -> None:
    assert make(**values).grid == grid


SECTION = {"size": 160, "overlap": 40}


def test_choices_may_be_null_lists_and_sections() -> None:
    parameter = make(choice=[None, [1, 2], SECTION])
    assert parameter.grid == (None, (1, 2), SECTION)
    assert parameter.describe() == "null | [1, 2] | {size: 160, overlap: 40}"


@pytest.mark.parametrize(
    ("values", "kept", "own"),
    [
        ({"choice": [None, SECTION]}, {"overlap": 40.0, "size": 160}, SECTION),
        ({"choice": [[1, 2], [3]]}, [1, 2], (1, 2)),
        ({"choice": ["1e-4", "1e-3"]}, "1e-3", 1e-3),
        ({"loguniform": [1e-5, 1e-2]}, "1e-3", 1e-3),
        ({"int": [1, 9]}, 2.0, 2),
        ({"logint": [1, 9]}, "2", 2),
    ],
)
def test_a_value_that_was_kept_as_json_or_text_is_its_own_again(values: Any, kept: Any, own: Any) -> None:
    found = make(**values).own(kept)
    assert (found, type(found)) == (own, type(own))


@pytest.mark.parametrize(
    ("values", "other"),
    [
        ({"choice": [None, SECTION]}, {"size": 160}),
        ({"choice": [1, 2]}, True),
        ({"uniform": [0, 1]}, 1.5),
        ({"uniform": [0, 1]}, "much"),
        ({"uniform": [0, 1]}, None),
        ({"logint": [1, 9]}, 2.5),
    ],
)
def test_other_values_are_none_of_its_own(values: Any, other: Any) -> None:
    with pytest.raises(LookupError, match="is not one of"):
        make(**values).own(other)


def test_a_list_from_a_journal_has_neighbours() -> None:
    assert make(choice=[[1, 2], [3, 4]]).move([1, 2], random.Random(0)) in [(1, 2), (3, 4)]


def test_a_number_is_neat_on_the_grid_as_off_it() -> None:
    assert make(uniform=[0.4, 0.7], step=0.1).quantize(0.4 + 2 * 0.1) == 0.6
    assert make(uniform=[0.4, 0.7]).quantize(0.4 + 0.123456) == 0.5235


@pytest.mark.parametrize(
    ("wide", "narrow", "contains"),
    [
        ({"uniform": [0, 2]}, {"uniform": [0.5, 1]}, True),
        ({"uniform": [0, 1]}, {"uniform": [0.5, 2]}, False),
        ({"loguniform": [1, 2]}, {"uniform": [1, 2]}, False),
        ({"choice": [1, 2, 3]}, {"choice": [3, 1]}, True),
        ({"choice": [1, 2]}, {"choice": [1, 4]}, False),
        ({"int": [1, 2]}, {"int": [1, 2], "when": "a.b > 1"}, False),
        ({"choice": [None, {"a": 1, "b": 2}]}, {"choice": [{"b": 2, "a": 1}]}, True),
        ({"choice": [[1, 2], 3]}, {"choice": [[2, 1]]}, False),
        ({"choice": [1, 2]}, {"int": [1, 2]}, False),
        ({"uniform": [0, 1], "step": 0.5}, {"uniform": [0.25, 0.75], "step": 0.5}, False),
        ({"int": [0, 900], "step": 300}, {"int": [300, 900], "step": 300}, True),
    ],
)
def test_a_wider_parameter_contains_a_narrower_one(wide: Any, narrow: Any, contains: bool) -> None:
    assert make(**wide).contains(make(**narrow)) is contains
