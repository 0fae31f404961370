from typing import Any

import pytest

from mrqm.config import Config, ConfigError, Role, has_role, keys_with, make_config, renamed_keys
from mrqm.config.roles import all_keys


def test_a_section_gives_its_roles_to_its_keys() -> None:
    assert has_role("scaling.use_gpu", Role.RUNTIME)
    assert has_role("optim.lr", Role.SCHEDULABLE)
    assert has_role("data.tile.size", Role.INFERENCE)


def test_roles_of_a_key_replace_those_of_its_section() -> None:
    assert not has_role("model.backbone.weights", Role.INFERENCE)
    assert not has_role("optim.weight_decay", Role.SCHEDULABLE)
    assert has_role("evaluation.batch_size", Role.RUNTIME)
    assert not has_role("evaluation.batch_size", Role.INFERENCE)


def test_a_section_has_a_role_if_all_of_its_keys_have_it() -> None:
    assert has_role("loss", Role.SCHEDULABLE)
    assert not has_role("optim", Role.SCHEDULABLE)
    assert not has_role("data", Role.INFERENCE)


def test_a_key_within_a_value_has_the_roles_of_the_value() -> None:
    assert has_role("data.classes.0", Role.DATA)
    assert not has_role("evaluation.area_bins.small", Role.INFERENCE)


def test_an_unknown_key_has_no_role() -> None:
    assert not any(has_role(key, role) for key in ("data.tile.sise", "nothing") for role in Role)


def test_every_role_has_keys() -> None:
    assert all(keys_with(role) for role in Role)


@pytest.mark.parametrize(("former", "key"), renamed_keys(Config).items())
def test_a_renamed_key_is_refused_with_its_present_name(former: str, key: str) -> None:
    assert former not in all_keys(Config)
    value: Any = 1
    for part in reversed(former.split(".")):
        value = {part: value}
    with pytest.raises(ConfigError, match=rf"{former}: was renamed to {key}"):
        make_config(value)
