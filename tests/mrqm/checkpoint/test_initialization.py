"""Initialisation from a trained detector: rows go by meaning, the rest fits or is named, and nothing is half loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mrqm.checkpoint.ancestor import read_ancestor
from mrqm.checkpoint.files import CONFIG, WEIGHTS
from mrqm.checkpoint.folder import build_unloaded, save_checkpoint
from mrqm.checkpoint.initialization import InitReport, build_initial_model
from mrqm.config import Config, ConfigError
from mrqm.models.mrqm import MRQM

OLD, NEW = ("car", "person", "bus"), ("person", "drone", "car", "bird")


@pytest.fixture
def make_ancestor(tmp_path: Path, tiny_config: Any, make_model: Any) -> Any:
    """Write a run with one checkpoint of random weights; takes overrides of its configuration."""

    def write(*overrides: str, classes: tuple[str, ...] = OLD) -> Path:
        config: Config = tiny_config(*overrides).with_classes(classes)
        folder = tmp_path / "runs" / "parent" / "epoch_0001"
        save_checkpoint(folder, make_model(config, seed=7).state_dict(), {}, config, {"coco/AP": 0.5})
        return folder

    return write


def start(
    config: Config, init: Path | str, classes: tuple[str, ...] = NEW
) -> tuple[MRQM, dict[str, Tensor], InitReport]:
    """The initialised detector, the state that it would have without, and the report."""
    settings = config.model_copy(update={"model": config.model.model_copy(update={"init": str(init)})})
    torch.manual_seed(3)
    untouched = build_unloaded(config, len(classes)).state_dict()
    torch.manual_seed(3)
    model, report = build_initial_model(settings, classes)
    assert report is not None
    return model, untouched, report


def test_the_same_detector_is_taken_over_whole(make_ancestor: Any, tiny_config: Any) -> None:
    folder = make_ancestor()
    model, _, report = start(tiny_config(), folder, OLD)
    stored = load_file(folder / WEIGHTS)
    assert stored.keys() == model.state_dict().keys()
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())
    assert report == InitReport(matched=OLD, new=(), dropped=(), notes=())
    assert report.describe() == "3 of 3 classes matched"


@pytest.mark.parametrize(
    "name",
    [
        "query_selection.class_head.weight", "query_selection.class_head.bias", "decoder.class_head.weight",
        "decoder.class_head.bias", "denoising.label_embedding.weight", "iou_aware_head.class_head.weight",
        "iou_aware_head.class_head.bias",
    ],
)  # fmt: skip
def test_every_class_row_goes_by_name(name: str, make_ancestor: Any, tiny_config: Any) -> None:
    folder = make_ancestor()
    model, untouched, report = start(tiny_config(), folder)
    old, new = load_file(folder / WEIGHTS)[name], model.state_dict()[name]
    anchors = len(old) // len(OLD)
    for anchor in range(anchors):
        for label, found in ((0, 1), (2, 0)):  # person, car
            assert torch.equal(new[anchor * len(NEW) + label], old[anchor * len(OLD) + found])
        for label in (1, 3):  # drone, bird
            assert torch.equal(new[anchor * len(NEW) + label], untouched[name][anchor * len(NEW) + label])
    assert (report.matched, report.new, report.dropped) == (("person", "car"), ("drone", "bird"), ("bus",))
    assert report.describe() == "2 of 4 classes matched; new: drone, bird; dropped: bus"


@pytest.mark.parametrize("queries", [8, 30])
def test_queries_are_cut_or_extended_by_the_last(queries: int, make_ancestor: Any, tiny_config: Any) -> None:
    folder = make_ancestor()  # 20 queries
    model, _, report = start(tiny_config(f"model.num_queries={queries}"), folder, OLD)
    old, new = load_file(folder / WEIGHTS)["query_selection.content.weight"], model.query_selection.content.weight
    assert len(new) == queries
    assert all(torch.equal(new[rank], old[min(rank, 19)]) for rank in range(queries))
    assert report.notes == (f"queries {'cut' if queries < 20 else 'extended'} from 20 to {queries}",)


def test_anchor_rows_go_by_their_shape(make_ancestor: Any, tiny_config: Any) -> None:
    folder = make_ancestor("loss.mining.anchor_scales=[2, 4]")
    model, untouched, report = start(tiny_config("loss.mining.anchor_scales=[8, 4]"), folder, OLD)
    assert report.notes == ("anchors: 1 matched, 1 new, 1 dropped",)
    old, new = load_file(folder / WEIGHTS), model.state_dict()
    for name, each in (("class_head.bias", len(OLD)), ("box_head.4.weight", 4), ("box_head.4.bias", 4)):
        key = f"iou_aware_head.{name}"
        assert torch.equal(new[key][each:], old[key][each:]), name  # scale 4 is the second of both
        assert torch.equal(new[key][:each], untouched[key][:each]), name


def test_parts_of_one_detector_alone_are_named(make_ancestor: Any, tiny_config: Any) -> None:
    folder = make_ancestor("model.denoising.enabled=false", "model.refinement.blocks=2")
    settings = ("model.decoder_layers=3", "model.iou_aware_head.enabled=false", "model.refinement.high_level_updates=2")
    model, untouched, report = start(tiny_config(*settings), folder, OLD)
    assert report.notes == (
        "starting afresh, as the ancestor has none: decoder.layers.2, denoising, encoder.blocks.0.high_level.1",
        "not used, as the model has none: encoder.blocks.1, iou_aware_head",
    )
    new, old = model.state_dict(), load_file(folder / WEIGHTS)
    for name, value in new.items():
        fresh = name.startswith(("decoder.layers.2.", "denoising.", "encoder.blocks.0.high_level.1."))
        assert torch.equal(value, untouched[name] if fresh else old[name]), name


def test_the_width_of_the_low_level_belongs_to_the_architecture_and_its_score_is_a_part(
    make_ancestor: Any, tiny_config: Any
) -> None:
    folder = make_ancestor()
    _, _, report = start(
        tiny_config("model.refinement={blocks: 1, high_level_updates: 1, low_level_share: 0.5}"), folder
    )
    assert "starting afresh, as the ancestor has none: encoder.salience" in report.notes
    start(tiny_config("model.refinement.low_level_ffn_dim=64"), folder)
    with pytest.raises(ConfigError, match=r"model\.refinement\.low_level_ffn_dim is null in the detector, 32 in"):
        start(tiny_config("model.refinement.low_level_ffn_dim=32"), folder)


def test_batch_norms_may_freeze_or_train(make_ancestor: Any, tiny_config: Any) -> None:
    folder = make_ancestor("model.backbone.frozen_batch_norm=false")
    _, _, report = start(tiny_config(), folder, OLD)
    assert report.notes == ()


def test_a_run_a_checkpoint_and_a_file_are_the_same_ancestor(
    make_ancestor: Any, tiny_config: Any, tmp_path: Path
) -> None:
    folder = make_ancestor()
    alone = shutil.copy(folder / WEIGHTS, tmp_path / "street.safetensors")
    states = [start(tiny_config(), place)[0].state_dict() for place in (folder, folder.parent, alone)]
    assert all(torch.equal(states[0][name], each[name]) for each in states for name in each)


def test_class_rows_of_a_file_without_names_start_afresh_and_it_is_said(
    make_ancestor: Any, tiny_config: Any, tmp_path: Path
) -> None:
    path = tmp_path / "street.safetensors"
    save_file(load_file(make_ancestor() / WEIGHTS), path)
    model, untouched, report = start(tiny_config(), path)
    assert torch.equal(model.decoder.class_head.weight, untouched["decoder.class_head.weight"])
    assert report.describe() == (
        "0 of 4 classes matched; new: person, drone, car, bird; class rows start afresh, as street.safetensors does "
        "not name its classes; anchor rows start afresh, as street.safetensors does not name its anchors"
    )


@pytest.mark.parametrize(
    ("key", "there", "here"),
    [
        ("model.hidden_dim", 64, 32), ("model.num_heads", 2, 4), ("model.num_points", 4, 2), ("model.ffn_dim", 32, 64),
        ("model.encoder", "full", "sae"), ("model.backbone.name", "test_resnet", "test_efficientnet"),
    ],
)  # fmt: skip
def test_the_keys_of_another_architecture_are_named(
    key: str, there: Any, here: Any, make_ancestor: Any, tiny_config: Any
) -> None:
    folder = make_ancestor(f"{key}={there}")
    with pytest.raises(
        ConfigError,
        match=f"another architecture: {key} is {there} in the detector, {here} in the configuration; set {key}=",
    ):
        start(tiny_config(f"{key}={here}"), folder)


def test_another_architecture_without_settings_is_refused_by_shape(
    make_ancestor: Any, tiny_config: Any, tmp_path: Path
) -> None:
    path = tmp_path / "street.safetensors"
    save_file(load_file(make_ancestor("model.hidden_dim=64") / WEIGHTS), path)
    with pytest.raises(ConfigError, match=r"model.init=.*street.safetensors.*has shape"):
        start(tiny_config(), path)


@pytest.mark.parametrize("spelled", ["Person", "PERSON", " person", "per_son"])
def test_names_that_match_only_by_case_are_refused(spelled: str, make_ancestor: Any, tiny_config: Any) -> None:
    folder = make_ancestor(classes=("car", spelled, "bus"))
    with pytest.raises(ConfigError, match=f"'{spelled}' in the detector, 'person' in the data"):
        start(tiny_config(), folder)


def test_a_tensor_that_is_missing_within_a_part_is_refused(make_ancestor: Any, tiny_config: Any) -> None:
    folder = make_ancestor()
    weights = load_file(folder / WEIGHTS)
    del weights["decoder.layers.1.output.weight"]
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(ConfigError, match=r"decoder\.layers\.1\.output\.weight: missing"):
        start(tiny_config(), folder)


def test_weights_that_are_not_finite_are_refused(make_ancestor: Any, tiny_config: Any) -> None:
    folder = make_ancestor()
    weights = load_file(folder / WEIGHTS)
    weights["decoder.norm.bias"][3] = float("nan")
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(ConfigError, match=r"decoder\.norm\.bias has values that are not finite"):
        start(tiny_config(), folder)


def test_what_is_no_detector_is_refused(
    tmp_path: Path, tiny_config: Any, backbone_weights: Path, make_ancestor: Any
) -> None:
    text = tmp_path / "notes.safetensors"
    text.write_text("hello")
    empty = tmp_path / "empty.safetensors"
    save_file({}, empty)
    lost = make_ancestor()
    (lost / WEIGHTS).unlink()
    for place, words in {
        text: "damaged, or not a safetensors file",
        tmp_path / "absent.safetensors": "no such file",
        empty: "not a detector of mrqm: it has no tensor query_selection.*, but none at all",
        backbone_weights: "if it is a backbone, set model.backbone.weights to it instead",
        lost: "model.safetensors: no such file",
        tmp_path / "nothing": "no such checkpoint",
    }.items():
        with pytest.raises(ConfigError) as refused:
            start(tiny_config(), place)
        assert f"model.init={place} cannot be used: {place}" in str(refused.value)
        assert words in str(refused.value)


def test_the_weights_of_the_backbone_are_not_needed(make_ancestor: Any, tiny_config: Any) -> None:
    folder = make_ancestor()
    config = tiny_config(f"model.init={folder}", "model.backbone.weights=none")  # frozen statistics come from there
    model, _ = build_initial_model(config, OLD)
    stored = load_file(folder / WEIGHTS)
    assert all(torch.equal(value, stored[f"backbone.{name}"]) for name, value in model.backbone.state_dict().items())


def test_the_weights_file_names_its_classes_and_architecture(make_ancestor: Any) -> None:
    folder = make_ancestor()
    (folder / CONFIG).unlink()
    ancestor = read_ancestor(folder / WEIGHTS)
    assert ancestor.classes == OLD
    assert ancestor.settings["model.hidden_dim"] == 32
    assert json.loads(json.dumps(ancestor.settings)) == ancestor.settings
