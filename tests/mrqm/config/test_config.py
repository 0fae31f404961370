"""Configuration: accepted values, refused values and the messages of refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrqm.config import Config, ConfigError, load_config, make_config

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads(path: Path) -> None:
    assert isinstance(load_config(path), Config)


def test_the_defaults_are_the_papers_recipe() -> None:
    config = Config()
    assert (config.optim.lr, config.optim.weight_decay, config.optim.max_grad_norm) == (2e-4, 1e-4, 0.1)
    assert (config.train.epochs, config.train.batch_size) == (12, 2)
    assert (config.loss.mining.base_iou, config.loss.mining.growth, config.loss.mining.exponent) == (0.55, 0.15, 0.2)
    assert (config.model.refinement.high_level_updates, config.model.refinement.blocks) == (2, 3)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optim.learning_rate=1", ["optim.learning_rate", "unknown", "known here: lr,"]),
        ("model.backbone.depth=3", ["model.backbone.depth", "unknown", "name, weights"]),
        ("data.tile.sizes=3", ["data.tile.sizes", "unknown", "size, overlap"]),
        ("speed=3", ["speed", "unknown", "optim"]),
        ("optim.lr=fast", ["optim.lr", "'fast'", "number"]),
        ("optim.lr=0", ["optim.lr", "greater than 0", "got 0"]),
        ("optim.lr=.inf", ["optim.lr", "finite", "inf"]),
        ("optim.ema_decay=1", ["optim.ema_decay", "less than 1", "got 1"]),
        ("train.epochs=0", ["train.epochs", "greater than or equal to 1", "got 0"]),
        ("train.epochs=1.5", ["train.epochs", "integer", "1.5"]),
        ("model.encoder=big", ["model.encoder", "'sae' or 'full'", "'big'"]),
        ("data.augment.horizontal_flip=1.5", ["data.augment.horizontal_flip", "less than or equal to 1", "1.5"]),
        ("loss.mining.anchor_scales=[]", ["loss.mining.anchor_scales", "at least 1", "[]"]),
        ("name=a b", ["name", "pattern", "'a b'"]),
        ("model=3", ["model", "3"]),
        ("model.hidden_dim=30", ["model", "hidden_dim=30", "num_heads=8", "change model.hidden_dim"]),
        ("loss.one_to_many.min_positives=9", ["loss.one_to_many", "min_positives=9", "ratio=6"]),
        ("train.batch_size=3", ["train.batch_size=3", "scaling.num_workers", "1 × 2 = 2"]),
        ("model.backbone.weights=none", ["model.backbone", "frozen_batch_norm", "weights is none"]),
        ("train={patience: 3, evaluate_every: 12}", ["train.patience=3", "lower train.evaluate_every"]),
        (
            "model.backbone={frozen_stages: 1, frozen_batch_norm: false}",
            ["model.backbone", "frozen_stages=1", "frozen_batch_norm=true"],
        ),
        ("data.tile={size: 100, overlap: 100}", ["data.tile", "overlap=100", "size=100"]),
        ("data.resize={short_side: 900, max_side: 800}", ["data.resize", "max_side=800", "short_side=900"]),
        ("data={resize: {}, scale: 0.5}", ["data", "scale=0.5", "data.resize=null", "data.scale=1"]),
        ("data={resize: {}, max_side: 640}", ["data", "max_side=640", "data.resize=null", "data.max_side=null"]),
        ("data.augment.scale_jitter=[2, 1]", ["data.augment", "scale_jitter=[2.0, 1.0]", "[least, most]"]),
        ("evaluation.area_bins={tiny: [9, 3]}", ["evaluation", "tiny", "[least, most]"]),
        ("model.iou_aware_head.enabled=false", ["encoder_supervision=mined", "model.iou_aware_head.enabled=true"]),
    ],
)
def test_a_refusal_names_the_key_the_value_and_what_is_allowed(override: str, said: list[str]) -> None:
    values = {"train": {"gradient_accumulation_steps": 2}, "loss": {"encoder_supervision": "mined"}}
    make_config(values)
    with pytest.raises(ConfigError) as refused:
        make_config(values, [override])
    assert [word for word in said if word not in str(refused.value)] == []


def test_patience_needs_scores_in_time() -> None:
    assert make_config({}, ["train.patience=3"]).train.patience == 3
    with pytest.raises(ConfigError, match=r"train\.patience=3 .*set evaluation\.asynchronous=false"):
        make_config({}, ["train.patience=3", "evaluation.asynchronous=true"])


def test_an_initialised_training_is_no_resumed_one() -> None:
    assert make_config({}, ["model.init=runs/a"]).model.init == "runs/a"
    with pytest.raises(ConfigError, match=r"train\.resume=runs/b .*model\.init=runs/a .*set one of them"):
        make_config({}, ["model.init=runs/a", "train.resume=runs/b"])


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)optim\.lr.*train\.epochs"):
        make_config({"optim": {"lr": -1}, "train": {"epochs": 0}})


def test_overrides_reach_nested_and_missing_sections() -> None:
    config = make_config({"model": {"hidden_dim": 64}}, ["model.refinement.blocks=5", "train.epochs=3"])
    assert (config.model.hidden_dim, config.model.refinement.blocks, config.train.epochs) == (64, 5, 3)


def test_overrides_open_a_section_that_is_null() -> None:
    tile = make_config({"data": {"tile": None}}, ["data.tile.size=320"]).data.tile
    assert tile is not None and tile.size == 320
    assert make_config({"data": {"tile": {"size": 320}}}, ["data.tile=null"]).data.tile is None


def test_overrides_leave_the_given_values_alone() -> None:
    values = {"model": {"hidden_dim": 64}}
    make_config(values, ["model.hidden_dim=32"])
    assert values == {"model": {"hidden_dim": 64}}


def test_the_last_override_wins() -> None:
    assert make_config({}, ["train.epochs=3", "train.epochs=4"]).train.epochs == 4


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001"])
def test_scientific_notation_is_a_number(text: str) -> None:
    assert make_config({}, [f"optim.lr={text}"]).optim.lr == 1e-4


@pytest.mark.parametrize("override", ["optim.lr", "=3", "optim.lr.deep=3", "optim.lr=[1"])
def test_malformed_overrides_are_refused_by_name(override: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make_config({"optim": {"lr": 0.1}}, [override])
    assert override in str(refused.value)


def test_the_resolved_configuration_reads_back_as_itself(tmp_path: Path) -> None:
    config = make_config({}, ["data.tile.size=320", "train.max_minutes=3", "data.classes=[car, van]", "data.root=/x"])
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert load_config(path) == config


@pytest.mark.parametrize(("text", "said"), [("a: [1", "not valid YAML"), ("- 1", "found list")])
def test_a_file_that_is_no_configuration_is_refused_by_name(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"bad\.yaml: .*{said}"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such"):
        load_config(tmp_path / "gone.yaml")


def test_a_worker_gets_its_share_of_the_batch() -> None:
    assert (
        make_config(
            {}, ["train.batch_size=24", "scaling.num_workers=3", "train.gradient_accumulation_steps=2"]
        ).micro_batch_size
        == 4
    )


def test_elastic_workers_need_an_image_each() -> None:
    elastic = ["scaling.num_workers=[2,3]", "train.gradient_accumulation_steps=2"]
    config = make_config({}, [*elastic, "train.batch_size=8"])
    assert (config.scaling.min_workers, config.scaling.max_workers, config.micro_batch_size) == (2, 3, 2)
    with pytest.raises(ConfigError, match=r"train\.batch_size=4 .*at least one image .* up to 3 workers"):
        make_config({}, [*elastic, "train.batch_size=4"])


def test_fewest_workers_come_first() -> None:
    with pytest.raises(ConfigError, match=r"scaling: num_workers=\[3, 2\] must be \[least, most\]"):
        make_config({}, ["scaling.num_workers=[3,2]", "train.batch_size=6"])
