"""Checkpoint folders: complete ones are restored, damaged ones are refused with the fault, and none executes code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from mrqm.checkpoint.folder import (
    CheckpointError,
    load_checkpoint_config,
    load_model,
    load_training,
    load_weights,
    save_checkpoint,
)
from mrqm.config import ConfigError
from mrqm.engine.resume import checkpoint_bytes
from mrqm.engine.trainer import Trainer

TRAINING = {"epoch": 3, "seconds": 1.5, "state": {0: {"exp_avg": torch.arange(3.0)}}}


class Malicious:
    """Object that writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.fixture
def config(tiny_config: Any) -> Any:
    return tiny_config("data.classes=[a, b, c]")


@pytest.fixture
def folder(tmp_path: Path, config: Any, make_model: Any) -> Path:
    path = tmp_path / "runs" / "checkpoint"
    save_checkpoint(path, make_model(config).state_dict(), TRAINING, config, {"AP": 0.5})
    return path


def test_a_checkpoint_comes_back_whole(folder: Path, config: Any, make_model: Any) -> None:
    assert load_checkpoint_config(folder) == config
    expected = make_model(config).state_dict()
    found = load_model(folder, config).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    training = load_training(folder)
    assert torch.equal(training.pop("state")[0]["exp_avg"], torch.arange(3.0))
    assert training == {"epoch": 3, "seconds": 1.5}


def test_the_pretrained_weights_are_not_needed_to_load(folder: Path, config: Any, tmp_path: Path) -> None:
    moved = load_checkpoint_config(folder, (f"model.backbone.weights={tmp_path / 'gone.safetensors'}",))
    model = load_model(folder, moved)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) and module.training for module in model.eval().modules())


def test_a_loaded_model_predicts_what_the_saved_one_did(folder: Path, config: Any, make_model: Any) -> None:
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        saved, loaded = make_model(config)(images), load_model(folder, config).eval()(images)
    torch.testing.assert_close(loaded["pred_logits"], saved["pred_logits"])


def test_overrides_reach_the_stored_configuration(folder: Path) -> None:
    assert load_checkpoint_config(folder, ("data.root=elsewhere",)).data.root == Path("elsewhere")


def test_a_folder_without_configuration_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not a checkpoint folder: it has no config\.yaml"):
        load_checkpoint_config(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "training.pt"])
def test_a_missing_file_is_named(name: str, folder: Path, config: Any) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name}: no such file"):
        load_model(folder, config) and load_training(folder)


@pytest.mark.parametrize("kept", [0, 5, 2000, 50_000])
@pytest.mark.parametrize("name", ["model.safetensors", "training.pt"])
def test_a_truncated_file_is_named(name: str, kept: int, folder: Path, config: Any) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: min(kept, len(whole) - 1)])
    with pytest.raises(CheckpointError, match=rf"{name}: damaged"):
        load_model(folder, config) and load_training(folder)


def test_weights_of_another_architecture_are_named(
    folder: Path, config: Any, tiny_config: Any, make_model: Any
) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*instead of"):
        load_weights(make_model(tiny_config("model.hidden_dim=64")), folder)
    with pytest.raises(CheckpointError, match=r"decoder\.layers\.2\.\S+: missing"):
        load_weights(make_model(tiny_config("model.decoder_layers=3")), folder)
    with pytest.raises(CheckpointError, match=r"iou_aware_head\.\S+: not in the model"):
        load_weights(make_model(tiny_config("model.iou_aware_head.enabled=false")), folder)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_executes_nothing(zipped: bool, folder: Path, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    if zipped:
        torch.save({"epoch": Malicious(trap)}, folder / "training.pt")
    else:
        (folder / "training.pt").write_bytes(pickle.dumps(Malicious(trap)))
    with pytest.raises(CheckpointError, match=r"training\.pt: damaged or not a checkpoint"):
        load_training(folder)
    assert not trap.exists()


def test_weights_that_are_a_pickle_execute_nothing(folder: Path, config: Any, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    (folder / "model.safetensors").write_bytes(pickle.dumps(Malicious(trap)))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        load_model(folder, config)
    assert not trap.exists()


def test_a_malicious_configuration_executes_nothing(folder: Path, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    (folder / "config.yaml").write_text(f"name: !!python/object/apply:os.mkdir [{trap}]\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: not valid YAML"):
        load_checkpoint_config(folder)
    assert not trap.exists()


@pytest.mark.parametrize("overrides", [(), ("optim.backbone_lr_factor=0",), ("optim.ema_decay=0",)])
def test_the_size_is_known_before(overrides: tuple[str, ...], squares: Any, tiny_config: Any, tmp_path: Path) -> None:
    config = tiny_config(f"data.root={squares()}", "data.classes=[blue, yellow]", *overrides)
    trainer = Trainer(config, torch.device("cpu"))
    trainer.train_epoch()
    trainer.save(tmp_path / "checkpoint", {})
    size = sum(path.stat().st_size for path in (tmp_path / "checkpoint").iterdir())
    assert checkpoint_bytes(config, 2) == pytest.approx(size, rel=0.1)


def test_a_snapshot_does_not_change_with_the_training(squares: Any, tiny_config: Any, tmp_path: Path) -> None:
    trainer = Trainer(tiny_config(f"data.root={squares()}", "data.classes=[blue, yellow]"), torch.device("cpu"))
    trainer.train_epoch()
    trainer.save(tmp_path / "at once", {})
    snapshot = trainer.snapshot({})
    trainer.train_epoch()
    snapshot.write(tmp_path / "later")
    for name in ("model.safetensors", "training.pt"):
        assert (tmp_path / "at once" / name).read_bytes() == (tmp_path / "later" / name).read_bytes()


def test_a_damaged_checkpoint_changes_nothing(squares: Any, tiny_config: Any, tmp_path: Path) -> None:
    trainer = Trainer(tiny_config(f"data.root={squares()}", "data.classes=[blue, yellow]"), torch.device("cpu"))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train_epoch()
    trainer.save(tmp_path, {})
    (tmp_path / "training.pt").write_bytes((tmp_path / "training.pt").read_bytes()[:-100])
    fresh = Trainer(trainer.config, torch.device("cpu"))
    with pytest.raises(CheckpointError, match=r"training\.pt: damaged"):
        fresh.load(tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in fresh.model.state_dict().items())
