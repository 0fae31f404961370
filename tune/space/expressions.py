"""Expressions for the conditions and constraints of a space: comparisons of dotted keys.

loss.mining.growth < 0.2 and model.encoder == 'sae'
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from mrqm.errors import UserError

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.In: lambda value, values: value in values, ast.NotIn: lambda value, values: value not in values,
}  # fmt: skip
_COMBINE: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_WORDS = {"true": True, "false": False, "null": None}  # as YAML and the command line write them


class ExpressionError(UserError):
    """A text that is not a comparison, or a comparison that cannot be computed with the given values."""


class Expression:
    """A comparison that is true or false for a configuration.

    Args:
        text: comparisons of dotted keys, numbers and quoted words by `< <= > >= == != in`, with `+ - * /`, joined by
            `and`, `or` and `not`.

    Attributes:
        text: text of the comparison.
        keys: dotted keys in it.

    Raises:
        ExpressionError: the text is not a comparison.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise ExpressionError(f"{text!r} is no comparison: {error.msg}") from error
        self.keys = tuple(dict.fromkeys(_keys(self._tree, text)))

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Tell if the comparison is true for a configuration.

        Args:
            values: values by dotted key; a key of a section that is off is null.

        Raises:
            ExpressionError: the values cannot be compared or combined in this way.
        """
        try:
            return bool(_evaluate(self._tree, values))
        except (TypeError, ZeroDivisionError) as error:
            seen = ", ".join(f"{key}={_shown(values.get(key))}" for key in self.keys)
            raise ExpressionError(f"{self.text!r} cannot be computed with {seen}: {error}") from error


def _keys(node: ast.expr, text: str) -> list[str]:
    """Return the dotted keys in a tree; refuse a tree that `_evaluate` cannot evaluate."""
    match node:
        case ast.Name() | ast.Attribute():
            key = ast.unparse(node)
            return [] if key in _WORDS else [key]
        case ast.Constant():
            return []
        case ast.Compare(left, operators, others) if all(type(o) in _COMPARE for o in operators):
            parts = [left, *others]
        case ast.BinOp(left, op, right) if type(op) in _COMBINE:
            parts = [left, right]
        case ast.BoolOp(_, parts) | ast.List(parts) | ast.Tuple(parts):
            pass
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            parts = [operand]
        case _:
            raise ExpressionError(f"{text!r}: {ast.unparse(node)!r} is not a comparison of keys, numbers and 'words'")
    return [key for part in parts for key in _keys(part, text)]


def _evaluate(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.Compare(first, operators, others):
            terms = [_evaluate(part, values) for part in (first, *others)]
            return all(_COMPARE[type(o)](a, b) for o, a, b in zip(operators, terms, terms[1:], strict=False))
        case ast.BinOp(left, op, right):
            return _COMBINE[type(op)](_evaluate(left, values), _evaluate(right, values))
        case ast.BoolOp(op, parts):
            truths = (bool(_evaluate(part, values)) for part in parts)
            return all(truths) if isinstance(op, ast.And) else any(truths)
        case ast.List(parts) | ast.Tuple(parts):
            return [_evaluate(part, values) for part in parts]
        case ast.UnaryOp(op, operand):
            value = _evaluate(operand, values)
            return not value if isinstance(op, ast.Not) else -value
    key = ast.unparse(node)
    return _WORDS[key] if key in _WORDS else values.get(key)


def _shown(value: Any) -> str:
    """Format a value as it is written in an expression."""
    return "null" if value is None else repr(value)
