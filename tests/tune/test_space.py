from pathlib import Path
from typing import Any

import pytest
import yaml

from mrqm.config import ConfigError
from tune.candidates import Candidates
from tune.space import Space, SpaceError, load_space, make_space, overrides, sweep_config

SPACES = sorted((Path(__file__).parents[2] / "tune" / "spaces").glob("*.yaml"))
CONFIGS = Path(__file__).parents[2] / "configs"
ONE = {"parameters": {"optim.lr": {"uniform": [0.1, 0.2]}}, "budget": {"trials": 3}}


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_shipped_spaces_fit_the_papers_configuration(path: Path) -> None:
    space = load_space(path)
    Candidates(space, sweep_config(CONFIGS / "visdrone_r50.yaml", space)).check()


@pytest.mark.parametrize("path", [p for p in SPACES if p.stem.startswith("paper")], ids=lambda path: path.stem)
def test_every_row_of_a_papers_table_belongs_to_one_trial(path: Path) -> None:
    space = load_space(path)
    candidates = Candidates(space, sweep_config(CONFIGS / "visdrone_r50.yaml", space))
    trials = [*space.start, *candidates.grid()]
    assert space.paper is not None
    for row in space.paper.rows:
        assert sum(row.at.items() <= trial.items() for trial in trials) == 1
    assert len(space.paper.rows) == len(trials)


def test_a_space_survives_being_written() -> None:
    for path in SPACES:
        space = load_space(path)
        assert make_space(yaml.safe_load(space.to_yaml())) == space


def test_the_command_line_wins_over_the_space_and_the_space_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("{name: base, optim: {lr: 1, clip_norm: 1}, train: {epochs: 5}}")
    space = make_space(ONE | {"name": "s", "fixed": {"train.epochs": 6, "optim.clip_norm": 2}})
    config = sweep_config(tmp_path / "c.yaml", space, ["optim.clip_norm=3"])
    assert (config.train.epochs, config.optim.clip_norm, config.name) == (6, 3, "base-s")
    assert sweep_config(tmp_path / "c.yaml", space, ["name=mine"]).name == "mine"


def test_a_key_is_set_or_searched(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("{}")
    with pytest.raises(SpaceError, match=r"optim\.lr: set and searched"):
        sweep_config(tmp_path / "c.yaml", make_space(ONE), ["optim.lr=1"])


def test_a_fixed_key_that_is_unknown_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("{}")
    with pytest.raises(ConfigError, match=r"train\.epoch: unknown key"):
        sweep_config(tmp_path / "c.yaml", make_space(ONE | {"fixed": {"train.epoch": 6}}))


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
        ({"objective": ["coco/AP", "coco/AR"]}, "judges by one objective"),
        ({"objective": []}, "at least one metric"),
        ({"scheduler": {"algorithm": "pbt"}}, "set search.algorithm to random"),
        ({"constraints": ["optim.lr <"]}, "constraints: 'optim.lr <' is no comparison"),
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
    assert overrides(params) == ["a=sae", "b=1e-4", "c=null", "d=true", "e=[1, 2]", "f=0.5", 'g="true"']


def test_a_space_is_named_after_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(ONE))
    space: Space = load_space(tmp_path / "mine.yaml")
    assert space.name == "mine"
