"""Descriptions of setting types, such as `a finite number greater than 0` or `a list of at least 1, each text`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from mrqm.config.sections.section import section_type, union_members

_NOUNS = {int: "an integer", float: "a number", bool: "true or false", str: "text", Path: "a path"}
_BOUNDS = (
    (annotated_types.Gt, "gt", "greater than"),
    (annotated_types.Ge, "ge", "greater than or equal to"),
    (annotated_types.Lt, "lt", "less than"),
    (annotated_types.Le, "le", "less than or equal to"),
)


def describe_type(annotation: Any) -> str:
    """Describe a type with its bounds."""
    bounds: list[str] = []
    while get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        bounds += [words for one in metadata for words in _bound(one)]
    members = union_members(annotation)
    if len(members) > 1 or members[0] is not annotation:
        optional = ["null"] if type(None) in get_args(annotation) else []
        return " or ".join([*(_bounded(describe_type(member), bounds) for member in members), *optional])
    return _bounded(_noun(annotation), bounds)


def _bounded(noun: str, bounds: Sequence[str]) -> str:
    """Add bounds to a noun, such as `a finite number greater than 0` or `a list of at least 1, each text`."""
    if "finite" in bounds:
        noun = noun.replace("a number", "a finite number", 1)
    words = " and ".join(bound for bound in bounds if bound != "finite")
    head, comma, rest = noun.partition(",")
    return f"{head} {words}{comma}{rest}" if words else noun


def _noun(kind: Any) -> str:
    arguments = get_args(kind)
    match get_origin(kind):
        case origin if origin is Literal:
            named = [f"'{value}'" for value in arguments]
            return " or ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
        case origin if origin in (tuple, list):
            if Ellipsis in arguments or origin is list:
                return f"a list, each {describe_type(arguments[0])}"
            parts = list(dict.fromkeys(map(describe_type, arguments)))
            return f"a list of {len(arguments)}, {'each ' if len(parts) == 1 else ''}{' and '.join(parts)}"
        case origin if origin is dict:
            return f"keys, each with {describe_type(arguments[1])}"
    if section_type(kind):
        return "a section with keys of its own"
    return _NOUNS.get(kind, "a value")


def _bound(constraint: Any) -> Iterator[str]:
    """Describe a constraint in words that follow a noun."""
    parts = [constraint]
    if isinstance(constraint, FieldInfo):
        parts = constraint.metadata
    for part in parts:
        for kind, name, words in _BOUNDS:
            if isinstance(part, kind):
                yield f"{words} {getattr(part, name):g}"
        if isinstance(part, annotated_types.MinLen) and part.min_length == 1:
            yield "of at least 1"
        if getattr(part, "allow_inf_nan", None) is False:
            yield "finite"
        if pattern := getattr(part, "pattern", None):
            yield f"of the pattern {pattern}"
