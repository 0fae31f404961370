"""Messages about invalid settings: key, expected type, given value, and an example that is accepted."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from mrqm.config.dotted import join
from mrqm.config.roles import renamed_keys
from mrqm.config.sections.section import Section, bare_type, section_type, walk_fields
from mrqm.config.type_words import describe_type
from mrqm.config.values import to_line, to_word

Keys = tuple[str | int, ...]
ShowExample = Callable[[Keys, Any], str]


@dataclass(frozen=True)
class _Place:
    """Location of a fault.

    Attributes:
        keys: keys from the root to the location.
        annotation: expected type; None if the key is unknown.
        section: innermost section around the location.
        default: value of the key if it is not set; None if there is none.
    """

    keys: Keys
    annotation: Any
    section: type[Section]
    default: Any = None


def describe_faults(
    error: ValidationError, root: type[Section], values: Mapping[str, Any], show: ShowExample
) -> list[str]:
    """Describe every fault in one line.

    Args:
        error: error of validating `values` against `root`.
        root: section type that the values were validated against.
        values: given values, nested.
        show: function that writes keys and a value as a user would, such as `as_override`.

    Returns:
        Lines without indentation.
    """
    lines: dict[tuple[Keys, str], str] = {}
    for fault in error.errors(include_url=False):
        place = _find(root, tuple(fault["loc"]))
        given = _look_up(values, place.keys, fault["input"])
        # one place can break several rules, each with its own message
        own = fault["msg"] if fault["type"] == "value_error" else ""
        lines.setdefault((place.keys, own), _describe(fault, place, given, root, show))
    return list(lines.values())


def as_override(keys: Keys, value: Any) -> str:
    """Write a value as an override on the command line, such as `optim.lr=0.0002`.

    Args:
        keys: keys from the root to the value.
        value: value of the key.

    Returns:
        One word of a shell command.
    """
    word = f"{join(keys)}={to_word(value)}"
    return shlex.quote(word) if isinstance(value, Mapping) else word


def as_yaml(keys: Keys, value: Any) -> str:
    """Write a value as a line of a YAML file, such as `budget: {trials: 8}`.

    Args:
        keys: keys from the root to the value.
        value: value of the key.

    Returns:
        One line of YAML.
    """
    for key in reversed([key for key in keys if isinstance(key, str)]):
        value = {key: value}
    return to_line(value)[1:-1]


def _describe(fault: Any, place: _Place, given: Any, root: type[Section], show: ShowExample) -> str:
    key = join(place.keys)
    if fault["type"] == "value_error":
        message = fault["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    if new := renamed_keys(root).get(key):
        return f"{key}: was renamed to {new}"
    if place.annotation is None:
        return f"{key}: unknown key; {_near(place, given, root)}"
    if fault["type"] == "missing" and len(fault["loc"]) == len(place.keys):
        return f"{key}: is missing; expected {describe_type(place.annotation)}"
    example = next(_examples(place, given), None)
    hint = "" if example is None else f"; for example {show(*example)}"
    return f"{key}: expected {describe_type(place.annotation)}; got {given!r}{hint}"


def _look_up(values: Any, keys: Keys, otherwise: Any) -> Any:
    """Return the given value at a location, or `otherwise` if the location is not among the given values."""
    for key in keys:
        try:
            values = values[key]
        except (LookupError, TypeError):
            return otherwise
    return values


def _find(root: type[Section], location: Keys) -> _Place:
    """Follow a location of pydantic, in which members of unions appear under internal names."""
    keys: list[str | int] = []
    place = _Place((), root, root)
    for part in location:
        kind = bare_type(place.annotation)
        if section_type(kind):
            field = kind.model_fields.get(str(part))
            keys.append(part)
            annotation = None if field is None else _annotate(field)
            default = None if field is None else field.get_default(call_default_factory=True)
            place = _Place(tuple(keys), annotation, kind, None if field is None or field.is_required() else default)
        elif get_origin(kind) is dict or (get_origin(kind) is tuple and section_type(get_args(kind)[0])):
            keys.append(part)
            place = _Place(tuple(keys), get_args(kind)[get_origin(kind) is dict], place.section)
        else:  # a list is shown whole, because one element cannot be set alone
            break
        if place.annotation is None:
            break
    return place


def _annotate(field: FieldInfo) -> Any:
    """Combine a field's type with its bounds."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _examples(place: _Place, given: Any) -> Iterator[tuple[Keys, Any]]:
    """Yield keys and values that would be accepted, the most similar to the given value first."""
    kind = bare_type(place.annotation)
    if section_type(kind):
        fields = {name: _annotate(field) for name, field in kind.model_fields.items()}
        strict = not isinstance(given, list)  # strict validation refuses a list for a tuple
        for name in (name for name, annotation in fields.items() if _accepts(annotation, given, strict)):
            yield (*place.keys, name), given
        for name, field in kind.model_fields.items():
            if not field.is_required() and field.default is not None and not section_type(field.annotation):
                yield (*place.keys, name), field.get_default()
        return
    listed = [part.strip() for part in given.split(",")] if isinstance(given, str) else [given]
    for value in (listed, place.default, 64, 0.5, 1, "name", [1, 2], ["name"]):
        if value is not None and value != {} and _accepts(place.annotation, value):
            yield place.keys, value


def _accepts(annotation: Any, value: Any, strict: bool = False) -> bool:
    try:
        TypeAdapter(annotation).validate_python(value, strict=strict)
    except ValidationError:
        return False
    return True


def _near(place: _Place, given: Any, root: type[Section]) -> str:
    """List the keys that may have been meant, and those of the same section."""
    known = [key for key, _ in walk_fields(root)]
    beside = [join((*place.keys[:-1], name)) for name in place.section.model_fields]
    own = difflib.get_close_matches(join(place.keys), [*beside, *known], n=1, cutoff=0.8)
    meant = own + [key for unknown in _leaves(place.keys, given) for key in _like(unknown, known)]
    hint = f"; did you mean {' or '.join(dict.fromkeys(meant[:2]))}?" if meant else ""
    return f"known here: {', '.join(place.section.model_fields)}{hint}"


def _like(unknown: str, known: Sequence[str]) -> list[str]:
    """Return keys with the same last part, else those with a similar spelling."""
    last = unknown.rpartition(".")[2]
    same = [key for key in known if key.rpartition(".")[2] == last]
    by_word = {key.rpartition(".")[2]: key for key in reversed(known)}
    spelled = difflib.get_close_matches(unknown, known, n=2, cutoff=0.8)
    return same or spelled or [by_word[word] for word in difflib.get_close_matches(last, by_word, n=1, cutoff=0.75)]


def _leaves(keys: Keys, given: Any) -> Iterator[str]:
    if isinstance(given, Mapping) and given:
        for key, value in given.items():
            yield from _leaves((*keys, key), value)
    else:
        yield join(keys)
