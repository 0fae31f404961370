from typing import Any

import pytest

from tune.space.expressions import Expression

VALUES: dict[str, Any] = {"optim.lr": 1e-3, "model.encoder": "sae", "a.b": 3, "a.c": 2, "a.on": True, "a.none": None}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("a.b > a.c", True),
        ("a.b * 2 <= a.c + 1", False),
        ("1 < a.c < a.b", True),
        ("1 < a.b < a.c", False),
        ("model.encoder == 'sae' and not a.c == 3", True),
        ("model.encoder in ['full', 'none'] or optim.lr < 1e-2", True),
        ("a.on == true and a.none == null", True),
        ("-a.b < 0", True),
    ],
)
def test_comparisons_of_keys(text: str, holds: bool) -> None:
    assert Expression(text).holds(VALUES) is holds


def test_its_keys_are_known_before_it_is_computed() -> None:
    assert Expression("a.b < optim.lr and a.b > 0").keys == ("a.b", "optim.lr")


@pytest.mark.parametrize("text", ["__import__('os').system('x')", "a.b <", "[x for x in a.b]", "a.b ** 9", "lambda: 1"])
def test_nothing_else_is_understood(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        Expression(text)


def test_what_cannot_be_compared_is_said_with_its_values() -> None:
    with pytest.raises(ValueError, match=r"'a.b < model.encoder' cannot be computed with a.b=3, model.encoder='sae'"):
        Expression("a.b < model.encoder").holds(VALUES)
