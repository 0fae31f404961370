import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from mrqm.config import ConfigError
from tune.space.sampling import ConfigSampler
from tune.space.schema import Space, SpaceError, load_space, make_space, overrides, sweep_config

SPACES = sorted((Path(__file__).parents[3] / "tune" / "spaces").glob("*.yaml"))
CONFIGS = Path(__file__).parents[3] / "configs"
ONE = {"parameters": {"optim.lr": {"uniform": [0.1, 0.2]}}, "budget": {"trials": 3}}


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_shipped_spaces_fit_the_papers_configuration(path: Path) -> None:
    space = load_space(path)
    ConfigSampler(space, sweep_config(CONFIGS / "visdrone_r50.yaml", space)).check()


@pytest.mark.parametrize("path", [p for p in SPACES if p.stem.startswith("paper")], ids=lambda path: path.stem)
def test_every_row_of_a_papers_table_belongs_to_one_trial(path: Path) -> None:
    space = load_space(path)
    sampler = ConfigSampler(space, sweep_config(CONFIGS / "visdrone_r50.yaml", space))
    trials = [*space.points_to_evaluate, *sampler.grid()]
    assert space.paper is not None
    for row in space.paper.rows:
        assert sum(row.at.items() <= trial.items() for trial in trials) == 1
    assert len(space.paper.rows) == len(trials)


def test_a_space_survives_being_written() -> None:
    for path in SPACES:
        space = load_space(path)
        assert make_space(yaml.safe_load(space.to_yaml())) == space


def test_the_command_line_wins_over_the_space_and_the_space_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("{name: base, optim: {lr: 1, max_grad_norm: 1}, train: {epochs: 5}}")
    space = make_space(ONE | {"name": "s", "fixed": {"train.epochs": 6, "optim.max_grad_norm": 2}})
    config = sweep_config(tmp_path / "c.yaml", space, ["optim.max_grad_norm=3"])
    assert (config.train.epochs, config.optim.max_grad_norm, config.name) == (6, 3, "base-s")
    assert sweep_config(tmp_path / "c.yaml", space, ["name=mine"]).name == "mine"


def test_a_key_is_set_or_searched(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("{}")
    with pytest.raises(SpaceError, match=r"optim\.lr: set and searched"):
        sweep_config(tmp_path / "c.yaml", make_space(ONE), ["optim.lr=1"])


def test_a_fixed_key_that_is_unknown_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("{}")
    with pytest.raises(ConfigError, match=r"train\.epoch: unknown key"):
        sweep_config(tmp_path / "c.yaml", make_space(ONE | {"fixed": {"train.epoch": 6}}))


def waits_for(conditions: dict[str, str]) -> dict[str, Any]:
    """A space in which each key is searched where another one is above 1."""
    return {"parameters": {key: {"int": [1, 3], "when": f"{name} > 1"} for key, name in conditions.items()}}


@pytest.mark.parametrize("keys", itertools.permutations(["a.x", "a.y", "a.z", "a.free"]))
def test_keys_come_after_those_that_their_conditions_name(keys: tuple[str, ...]) -> None:
    whole = {"parameters": {"a.free": {"int": [1, 2]}} | waits_for({"a.x": "a.y", "a.y": "a.z"})["parameters"]}
    whole["parameters"]["a.z"] = {"int": [1, 3]}
    space = make_space(ONE | {"parameters": {key: whole["parameters"][key] for key in keys}})
    assert [key for key in space.order if key != "a.free"] == ["a.z", "a.y", "a.x"]
    assert set(space.order) == set(keys)


def test_numbers_in_scientific_notation_are_numbers_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "budget: {trials: 4}\nfixed: {optim.weight_decay: 1e-3}\n"
        "parameters:\n  optim.lr: {loguniform: [1e-5, 1e-2]}\n  train.seed: {choice: [1e3, 7]}\n"
        "points_to_evaluate:\n  - {optim.lr: 1e-3}\n"
        "paper: {source: s, column: c, rows: [{at: {optim.lr: 1e-4}, value: 1e-1}]}\n"
    )
    space = load_space(path)
    assert (space.points_to_evaluate, space.fixed) == (({"optim.lr": 1e-3},), {"optim.weight_decay": 1e-3})
    assert space.parameters["train.seed"].choice == (1000.0, 7)
    assert space.paper is not None and space.paper.rows[0].at == {"optim.lr": 1e-4}


def test_part_of_a_searched_section_cannot_be_set(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("{}")
    space = make_space(ONE | {"parameters": {"data.tile": {"choice": [None, {"size": 160, "overlap": 40}]}}})
    with pytest.raises(SpaceError, match=r"data\.tile\.size: set and searched"):
        sweep_config(tmp_path / "c.yaml", space, ["data.tile.size=100"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"parameters": {}}, "at least one is needed"),
        ({"budget": {}}, r"budget\.trials is needed"),
        ({"budget": {"trials": 0}}, r"budget\.trials: .* got 0"),
        ({"sheduler": {}}, "sheduler: unknown key"),
        ({"search": {"algorithm": "bayes"}}, r"search\.algorithm: .*'tpe'"),
        ({"search": {"algorithm": "grid"}}, r"needs choice, int or a step for optim\.lr"),
        ({"search": {"algorithm": "nsga2"}, "scheduler": {"algorithm": "none"}}, "for several objectives"),
        ({"objective": ["coco/AP", "coco/AR"]}, "compares one objective"),
        ({"objective": []}, "at least one metric"),
        ({"scheduler": {"algorithm": "pbt"}}, "set search.algorithm to random"),
        ({"constraints": ["optim.lr <"]}, "constraints: 'optim.lr <' is no comparison"),
        (waits_for({"a.x": "a.x"}), "wait for each other in a circle: a.x: when a.x > 1; drop one"),
        (waits_for({"a.x": "a.y", "a.y": "a.z.b", "a.z": "a.x"}), "in a circle: a.x: when a.y > 1; a.y: when a.z.b"),
        ({"parameters": {"a.x": {"int": [1, 2]}, "a": {"choice": [None]}}}, "a.x is part of a, which is searched"),
    ],
)
def test_what_is_no_space_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make_space(ONE | values)


@pytest.mark.parametrize(
    ("text", "message"), [("[", "not valid YAML"), ("3", "expected keys"), (None, "no such space; .* mrqm.yaml")]
)
def test_a_file_that_is_no_space_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SpaceError, match=message) as raised:
        load_space(path)
    assert str(path) in str(raised.value)


def test_overrides_are_what_the_command_line_takes() -> None:
    params = {"a": "sae", "b": "1e-4", "c": None, "d": True, "e": [1, 2], "f": 0.5, "g": "true"}
    assert overrides(params) == ["a=sae", "b=1e-4", "c=null", "d=true", "e=[1,2]", "f=0.5", 'g="true"']


def test_a_space_is_named_after_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(ONE))
    space: Space = load_space(tmp_path / "mine.yaml")
    assert space.name == "mine"
