"""Messages about wrong values, with an example that is accepted, for every key of files and spaces."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from mrqm.config import Config, ConfigError, Section, make_config
from mrqm.config.messages import as_override, as_yaml, describe_faults
from tune.space.schema import Space, SpaceError, make_space

WRONG = ["x,y", -1, 0, 640, 1.5, True, None, [], ["x", 1], {"x": 1}, [[1]]]
PYDANTICS = re.compile(r"Input should|valid|constrained|function-|tuple\[|lax|pydantic")


def dotted_keys(section: type[Section], before: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield f"{before}{name}"
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from dotted_keys(kind, f"{before}{name}.")


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def refusals(root: type[Section], key: str) -> Iterator[tuple[Any, str]]:
    """Yield wrong values of a key with the message of each refusal."""
    for wrong in WRONG:
        values = nested(key, wrong)
        try:
            root.model_validate(values)
        except ValidationError as error:
            show = as_override if root is Config else as_yaml
            for line in describe_faults(error, root, values, show):
                if line.startswith(f"{key}: expected"):
                    yield wrong, line


@pytest.mark.parametrize("key", list(dotted_keys(Config)))
def test_every_key_has_words_and_an_example_of_its_own(key: str) -> None:
    for wrong, line in refusals(Config, key):
        assert not PYDANTICS.search(line.partition("; for example")[0]), line
        assert f"got {wrong!r}" in line
        if "; for example " in line:
            (example,) = shlex.split(line.partition("; for example ")[2])
            assert example.startswith(key)
            try:
                make_config({}, [example])
            except ConfigError as error:  # other keys may have to follow, as train.batch_size the workers
                assert f"{key}: expected" not in str(error)


@pytest.mark.parametrize("key", [key for key in dotted_keys(Space) if not key.startswith("paper.")])
def test_keys_of_spaces_too(key: str) -> None:
    for wrong, line in refusals(Space, key):
        assert not PYDANTICS.search(line.partition("; for example")[0]), line
        assert f"got {wrong!r}" in line
        if "; for example " in line:
            example = yaml.safe_load(line.partition("; for example ")[2])
            try:
                make_space(example)
            except SpaceError as error:
                assert f"{key}: expected" not in str(error)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.tile=640", ["data.tile: expected a section", "got 640", "data.tile.size=640"]),
        ("scaling.num_workers=0", ["scaling.num_workers: ", "an integer", "a list of 2", "scaling.num_workers=1"]),
        ("data.classes=a,b", ["data.classes: expected a list", "'a,b'", "data.classes=[a,b]"]),
        ("data.classes=[1,2]", ["data.classes: expected a list, each text", "[1, 2]"]),
        ("lr=1e-3", ["lr: unknown key; known here: ", "; did you mean optim.lr?"]),
        ("training.epochs=3", ["training: unknown key; known here: ", "; did you mean train.epochs?"]),
        ("modle.hidden_dim=3", ["modle: unknown key; known here: ", "; did you mean model"]),
        ("optim.learning_rate=1", ["optim.learning_rate: unknown key", "known here: lr,"]),
        ("evaluation.area_bins={tiny: 3}", ["evaluation.area_bins.tiny: expected a list of 2", "got 3"]),
    ],
)
def test_what_users_write_is_answered_with_what_they_meant(override: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        make_config({}, [override])
    assert [words for words in said if words not in str(refused.value)] == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"parametres": {}}, ["parametres: unknown key; known here: ", "; did you mean parameters?"]),
        ({"trials": 3}, ["trials: unknown key; known here: ", "; did you mean budget.trials?"]),
        ({"scheduler": "asha"}, ["scheduler: expected a section", "scheduler: {algorithm: asha}"]),
        ({"search": {"algorithm": "bayes"}}, ["search.algorithm: expected 'tpe'", "search: {algorithm: tpe}"]),
        ({"parameters": {"optim.lr": {"choices": [1]}}}, ["did you mean parameters.optim.lr.choice?"]),
        ({"parameters": {"optim.lr": [1, 2]}}, ["parameters.optim.lr: expected", "{optim.lr: {choice: [1, 2]}}"]),
    ],
)
def test_spaces_are_answered_likewise(values: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(SpaceError) as refused:
        make_space(values)
    assert [words for words in said if words not in str(refused.value)] == []
