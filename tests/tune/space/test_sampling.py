import random
from collections.abc import Callable
from typing import Any

import pytest

from mrqm.config import Config
from tune.space.init_choices import init_choices
from tune.space.sampling import ConfigSampler
from tune.space.schema import SpaceError, make_space

TinyConfig = Callable[..., Config]
MakeSampler = Callable[..., ConfigSampler]
RATIO, LEAST = "loss.one_to_many.ratio", "loss.one_to_many.min_positives"


@pytest.fixture(scope="module")
def make(tiny_config: TinyConfig) -> MakeSampler:
    def build(parameters: dict[str, Any], *overrides: str, **values: Any) -> ConfigSampler:
        space = make_space({"parameters": parameters, "budget": {"trials": 4}} | values)
        return ConfigSampler(space, tiny_config(*overrides))

    return build


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"optim.rate": {"uniform": [0, 1]}}, r"parameters\.optim\.rate: .*unknown key; known here: lr"),
        ({"optim.lr": {"uniform": [0, 1]}}, r"optim\.lr: .*greater than 0; got 0"),
        ({"loss.mining.base_iou": {"uniform": [0.4, 1.2]}}, r"base_iou: .*less than 1; got 1\.2"),
        ({"model.refinement.blocks": {"uniform": [1, 3]}}, "blocks: .*integer"),
        ({"model.encoder": {"choice": ["sae", "none"]}}, "encoder: .*'sae' or 'full'; got 'none'"),
        ({"scaling.num_workers": {"int": [1, 2]}}, "all trials share it"),
        ({"scaling": {"choice": [{"num_workers": 2}]}}, "all trials share it"),
        ({"train": {"choice": [{"max_minutes": 2}]}}, "all trials share it"),
        ({"train.epochs": {"int": [1, 2]}}, "compares trials of equal length"),
        ({"model.refinement": {"choice": [1]}}, "refinement"),
    ],
)
def test_keys_and_ranges_that_the_configuration_forbids(make: MakeSampler, parameters: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make(parameters).check()


def test_all_faults_are_named_at_once(make: MakeSampler) -> None:
    sampler = make({"optim.rate": {"uniform": [0, 1]}, "optim.lr": {"uniform": [0, 1]}}, objective="coco/F1")
    with pytest.raises(SpaceError) as raised:
        sampler.check()
    for word in ("optim.rate", "optim.lr", "coco/F1"):
        assert word in str(raised.value)


def test_an_objective_that_is_never_reported(make: MakeSampler) -> None:
    with pytest.raises(SpaceError, match=r"coco/AP_tiny: never reported; there are coco/AP, .*AP_small"):
        make({RATIO: {"int": [1, 3]}}, objective="coco/AP_tiny").check()


def test_a_time_limit_of_trials_is_refused(make: MakeSampler) -> None:
    with pytest.raises(SpaceError, match=r"train\.max_minutes=7: trials are compared by epochs"):
        make({RATIO: {"int": [1, 3]}}, "train.max_minutes=7").check()


def test_a_constraint_that_nothing_satisfies(make: MakeSampler) -> None:
    with pytest.raises(
        SpaceError, match="no trial of 1,000 random ones is allowed; refused were\n  1000 by constraint"
    ):
        make({RATIO: {"int": [1, 3]}}, constraints=[f"{RATIO} > 3"]).check()


def test_a_constraint_on_a_key_that_is_none(make: MakeSampler) -> None:
    with pytest.raises(SpaceError, match=r"optim\.rate is no key of the configuration"):
        make({RATIO: {"int": [1, 3]}}, constraints=["optim.rate > 3"]).check()


def test_draws_obey_constraints_and_the_rules_that_join_keys(make: MakeSampler) -> None:
    sampler = make({RATIO: {"int": [1, 4]}, LEAST: {"int": [1, 4]}}, constraints=[f"{RATIO} * {LEAST} < 9"])
    sampler.check()
    drawn = [sampler.draw(random.Random(seed)) for seed in range(100)]
    assert all(trial[LEAST] <= trial[RATIO] and trial[RATIO] * trial[LEAST] < 9 for trial in drawn)
    assert len({tuple(trial.values()) for trial in drawn}) == 7


def test_the_same_seed_draws_the_same(make: MakeSampler) -> None:
    sampler = make({"optim.lr": {"loguniform": [1e-4, 1]}, "train.seed": {"logint": [1, 1000]}})
    assert sampler.draw(random.Random(3)) == sampler.draw(random.Random(3))


def test_draws_stay_within_ranges_and_reach_their_ends(make: MakeSampler) -> None:
    sampler = make({"optim.lr": {"loguniform": [1e-4, 1]}, "train.seed": {"logint": [1, 4]}})
    drawn = [sampler.draw(random.Random(seed)) for seed in range(200)]
    assert {trial["train.seed"] for trial in drawn} == {1, 2, 3, 4}
    assert all(1e-4 <= trial["optim.lr"] <= 1 for trial in drawn)
    assert sum(trial["optim.lr"] < 1e-2 for trial in drawn) == pytest.approx(100, abs=30)


CONDITIONAL = {"model.encoder": {"choice": ["sae", "full"]}, "model.full_encoder_layers": {"int": [1, 2]}}
CONDITIONAL["model.full_encoder_layers"]["when"] = "model.encoder == 'full'"  # type: ignore[assignment]


def test_a_conditional_key_is_searched_only_where_it_counts(make: MakeSampler) -> None:
    sampler = make(CONDITIONAL)
    drawn = [sampler.draw(random.Random(seed)) for seed in range(20)]
    assert all(("model.full_encoder_layers" in trial) == (trial["model.encoder"] == "full") for trial in drawn)
    assert {trial["model.encoder"] for trial in drawn} == {"sae", "full"}


def test_a_condition_may_name_a_key_that_stands_later(make: MakeSampler) -> None:
    """Whatever the file's order, the trial's own value counts, not the configured one."""
    sampler = make(dict(reversed(CONDITIONAL.items())), search={"algorithm": "grid"})
    assert [dict(trial) for trial in sampler.grid()] == [
        {"model.encoder": "sae"},
        {"model.full_encoder_layers": 1, "model.encoder": "full"},
        {"model.full_encoder_layers": 2, "model.encoder": "full"},
    ]
    drawn = [sampler.draw(random.Random(seed)) for seed in range(20)]
    assert all(("model.full_encoder_layers" in trial) == (trial["model.encoder"] == "full") for trial in drawn)


TILE = {"data.tile": {"choice": [None, {"size": 160, "overlap": 40}, {"size": 320}]}}


def test_a_section_or_null_is_a_choice(make: MakeSampler) -> None:
    sampler = make(TILE, search={"algorithm": "grid"})
    sampler.check()
    tiles = [sampler.config(trial).data.tile for trial in sampler.grid()]
    assert [tile and (tile.size, tile.overlap) for tile in tiles] == [None, (160, 40), (320, 150)]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"size": 160, "overlp": 40}, r"data\.tile\.overlp: unknown key; known here: size"),
        ({"size": 0}, r"data\.tile\.size: .*got 0"),
        ({"size": 100, "overlap": 100}, "overlap=100 must be below size=100"),
    ],
)
def test_a_section_that_the_configuration_forbids(make: MakeSampler, section: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make({"data.tile": {"choice": [None, section]}}).check()


def test_conditions_and_constraints_see_into_a_chosen_section(make: MakeSampler) -> None:
    """Keys that a section leaves out have their defaults there; a section that is off is null."""
    keep = {"train.seed": {"int": [1, 2], "when": "data.tile != null and data.tile.overlap > 100"}}
    sampler = make(keep | TILE, search={"algorithm": "grid"}, constraints=["data.tile == null or train.seed < 2"])
    sampler.check()
    assert [tuple(trial.values()) for trial in sampler.grid()] == [
        (None,),
        ({"size": 160, "overlap": 40},),
        (1, {"size": 320}),
    ]


def test_what_cannot_be_computed_is_a_message(make: MakeSampler) -> None:
    with pytest.raises(SpaceError, match=r"'data.tile.size > 100' cannot be computed with data\.tile\.size=null"):
        make(TILE, constraints=["data.tile.size > 100"]).check()


@pytest.mark.parametrize(
    "start",
    [
        [{RATIO: 2}, {RATIO: 2.0}],
        [{RATIO: 2}, {RATIO: 2, LEAST: 1}],
        [{"optim.lr": 1e-3, RATIO: 2}, {RATIO: 2, "optim.lr": "1e-3"}],
    ],
)
def test_trials_to_start_with_that_are_the_same_come_once(make: MakeSampler, start: Any) -> None:
    """The same is the same configuration: `min_positives` is 1 and `lr` is 0.001 without being named."""
    sampler = make({RATIO: {"int": [1, 3]}, "optim.lr": {"loguniform": [1e-5, 1e-2]}}, points_to_evaluate=start)
    sampler.check()
    assert sampler.points_to_evaluate == [{key: 2 if key == RATIO else 1e-3 for key in start[0]}]


def test_a_trial_to_start_with_names_whole_sections(make: MakeSampler) -> None:
    with pytest.raises(SpaceError, match=r"data\.tile\.size is part of data\.tile, which is searched as a whole"):
        make(TILE, points_to_evaluate=[{"data.tile.size": 160}]).check()


def test_a_grid_has_every_combination_once(make: MakeSampler) -> None:
    sampler = make(CONDITIONAL, search={"algorithm": "grid"})
    assert [tuple(trial.values()) for trial in sampler.grid()] == [("sae",), ("full", 1), ("full", 2)]


def test_a_grid_leaves_out_what_the_sweep_starts_with(make: MakeSampler) -> None:
    sampler = make({RATIO: {"int": [1, 3]}}, search={"algorithm": "grid"}, points_to_evaluate=[{RATIO: 2.0}])
    assert list(sampler.grid()) == [{RATIO: 1}, {RATIO: 3}]


def test_a_trial_is_a_configuration(make: MakeSampler) -> None:
    config = make({RATIO: {"int": [1, 3]}}).config({RATIO: 2}, "name=trial-1")
    assert (config.loss.one_to_many.ratio, config.name) == (2, "trial-1")


@pytest.mark.parametrize(
    "parameters", [{"model.decoder_layers": {"int": [1, 3]}}, {"optim": {"choice": [{"weight_decay": 0.1}, {}]}}]
)
def test_a_population_keeps_its_weights_shapes_and_their_decay(make: MakeSampler, parameters: dict[str, Any]) -> None:
    pbt = {"search": {"algorithm": "random"}, "scheduler": {"algorithm": "pbt"}}
    with pytest.raises(SpaceError, match="may change only optim"):
        make(parameters, **pbt).check()


def test_starting_trials_lie_in_the_space(make: MakeSampler) -> None:
    with pytest.raises(SpaceError, match=rf"points_to_evaluate: {RATIO}=9 is not one of int 1 … 3"):
        make({RATIO: {"int": [1, 3]}}, points_to_evaluate=[{RATIO: 9}]).check()


def test_every_detector_that_a_trial_may_start_from_is_known(make: MakeSampler) -> None:
    sampler = make(
        {"model.init": {"choice": [None, "runs/a", "models:/street@champion"]}, RATIO: {"int": [1, 3]}},
        "model.init=runs/base",
        points_to_evaluate=[{"model.init": "runs/a", "optim.lr": 0.1}],
    )
    sampler.check()
    assert init_choices(sampler.space, sampler.values) == ["runs/base", "runs/a", "models:/street@champion"]
    other = make({RATIO: {"int": [1, 3]}})
    assert init_choices(other.space, other.values) == []


@pytest.mark.parametrize("key", ["model.hidden_dim", "model.ffn_dim"])
def test_the_architecture_of_a_detector_to_start_from_is_not_searched(make: MakeSampler, key: str) -> None:
    with pytest.raises(SpaceError, match=rf"parameters\.{key}: model\.init=runs/a fixes it"):
        make({key: {"choice": [32, 64]}}, "model.init=runs/a").check()
