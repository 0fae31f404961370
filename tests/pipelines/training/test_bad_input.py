"""Users' mistakes on the command line: one message, before anything starts, and no loss of data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import torch
from pytest_httpserver import HTTPServer
from typer.testing import CliRunner

from mrqm.__main__ import app
from mrqm.config import load_config
from mrqm.engine.trainer import Trainer
from pipelines.storage.absolute_paths import with_absolute_paths
from pipelines.storage.fingerprint import begin, fingerprint_of
from pipelines.storage.run_dir import RunFolder

from ..registered import free_port
from ..workplace import Workplace

Refused = Callable[..., str]
UNTRAINED = ("model.backbone.weights=none", "model.backbone.frozen_batch_norm=false")


def contents(folder: Path) -> dict[Path, bytes | None]:
    """List all files and folders within one, except the lock of a run's folder."""
    paths = [path for path in folder.rglob("*") if path.name != ".lock"]
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


@pytest.fixture
def refused(inside: Workplace) -> Refused:
    """Run `mrqm train`, which refuses before Ray starts and leaves no files or traceback; return its output."""

    def run(*overrides: str) -> str:
        before = contents(inside.folder)
        result = CliRunner().invoke(app, ["train", "-c", str(inside.config_file), *overrides])
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        assert "error: " in result.output
        assert not ray.is_initialized()
        assert contents(inside.folder) == before
        return " ".join(result.output.split())

    return run


@pytest.fixture(scope="module")
def checkpoint(workplace: Workplace) -> Path:
    """Checkpoint of the first of two epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace.folder)
        trainer = Trainer(load_config(workplace.config_file), torch.device("cpu"))
    trainer.epoch = 1
    trainer.state.optimizer.step()
    trainer.save(workplace.folder / "checkpoint", {})
    return workplace.folder / "checkpoint"


def test_a_store_that_does_not_answer(refused: Refused, inside: Workplace) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    said = refused("name=unreachable", f"tracking.uri={uri}")
    assert f"MLflow at {uri} cannot be used: nothing listens there; start the server, or set tracking.uri" in said


def test_a_store_that_is_none(refused: Refused, website: HTTPServer) -> None:
    assert "the server there is no MLflow server; correct the address" in refused(f"tracking.uri={website.url_for('')}")
    assert "MLflow at nonsense://here cannot be used: " in refused("tracking.uri=nonsense://here")
    assert "MLflow at http://no.such.host.invalid cannot be used: no host has that name" in refused(
        "tracking.uri=http://no.such.host.invalid"
    )


def test_a_place_that_cannot_be_written(refused: Refused, inside: Workplace) -> None:
    (inside.folder / "file").write_text("")
    said = refused("output_dir=file")
    assert f"output_dir={inside.folder}/file/tiny: cannot be written" in said
    assert "set another folder or URI, or grant write access" in said


def test_a_place_that_is_nearly_full(refused: Refused, small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(2**20)
    said = refused(f"output_dir={disk}")
    assert f"output_dir={disk}/tiny: 1.0 MB are free, and checkpoints need" in said
    assert "MB each); make room, set another folder or lower train.num_checkpoints_to_keep" in said


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["model.hidden_dim=16"], "tensors do not fit the model"),
        (["optim.backbone_lr_factor=0"], "other parameters were frozen or decayed"),
        (["train.epochs=1"], "1 of train.epochs=1 are done"),
    ],
)
def test_a_checkpoint_of_another_model(
    refused: Refused, checkpoint: Path, inside: Workplace, overrides: list[str], reason: str
) -> None:
    said = refused("name=other", f"train.resume={checkpoint}", *overrides)
    assert f"train.resume cannot be used: {checkpoint}" in said
    assert reason in said
    assert "give a complete checkpoint of the same model and classes, or auto" in said


def test_a_checkpoint_of_other_classes(refused: Refused, checkpoint: Path, inside: Workplace) -> None:
    classes = load_config(inside.config_file).data.classes
    assert classes is not None
    other = ["lorry", *classes[1:]]
    said = refused(f"train.resume={checkpoint}", f"data.classes=[{','.join(other)}]")
    assert f"{checkpoint}: its classes are {list(classes)}, not {other}" in said


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            ["model.init={0}", "model.hidden_dim=16"],
            "another architecture: model.hidden_dim is 32 in the detector, 16 in",
        ),
        (["model.init={0}/training.pt"], "not a checkpoint folder: it is a file"),
        (["model.init=data"], "not a checkpoint folder: it has no config.yaml"),
        (["model.init=models:/nobody@champion"], "no such database"),
        (["model.init={0}", "train.resume={0}"], "set one of them"),
    ],
)
def test_a_detector_that_cannot_be_started_from(
    refused: Refused, checkpoint: Path, overrides: list[str], reason: str
) -> None:
    said = refused("name=child", *(word.format(checkpoint) for word in overrides))
    assert "model.init=" in said
    assert reason in said


def test_class_names_that_match_only_by_case(refused: Refused, checkpoint: Path, inside: Workplace) -> None:
    classes = load_config(inside.config_file).data.classes
    assert classes is not None
    said = refused("name=child", f"model.init={checkpoint}", f"data.classes=[{','.join(classes).title()}]")
    assert (
        f"differ only in case or separators: {classes[0]!r} in the detector, {classes[0].title()!r} in the data" in said
    )


def test_a_resumption_that_means_an_initialisation(refused: Refused, checkpoint: Path) -> None:
    said = refused("name=other", f"train.resume={checkpoint}", "train.epochs=1")
    assert f"to start a new training from its weights, set model.init={checkpoint} instead" in said


@pytest.mark.parametrize("file", ["model.safetensors", "training.pt"])
def test_a_checkpoint_that_is_cut_off(refused: Refused, checkpoint: Path, tmp_path: Path, file: str) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(checkpoint, cut)
    content = (cut / file).read_bytes()
    (cut / file).write_bytes(content[: len(content) // 2])
    said = refused(f"train.resume={cut}")
    assert f"train.resume cannot be used: {cut}/{file}: damaged" in said


def test_the_same_name_with_another_configuration(refused: Refused, inside: Workplace) -> None:
    config = with_absolute_paths(load_config(inside.config_file, ["name=taken"]))
    folder = RunFolder(config)
    with folder.claimed():
        begin(config, folder, fingerprint_of(config))
    said = refused("name=taken", "optim.lr=0.5", "train.epochs=9")
    assert "has another configuration: optim.lr: was 0.001, is now 0.5 train.epochs: was 2, is now 9" in said
    assert "choose another name, such as name=taken-2, or remove" in said


def test_the_same_run_twice_at_once(refused: Refused, inside: Workplace) -> None:
    config = load_config(inside.config_file, ["name=twice"])
    with RunFolder(config).claimed():
        assert "run twice in" in (said := refused("name=twice"))
        assert "is being trained by another process" in said


@pytest.mark.parametrize("command", ["train", "tune"])
def test_a_backbone_that_does_not_take_the_images_is_refused_without_a_lock_or_a_folder(
    command: str, inside: Workplace, tmp_path: Path
) -> None:
    (tmp_path / "space.yaml").write_text("{parameters: {optim.lr: {uniform: [0.1, 1]}}, budget: {trials: 2}}")
    words = [command, "-c", str(inside.config_file), *(["-s", f"{tmp_path}/space.yaml"] if command == "tune" else [])]
    words += [f"output_dir={tmp_path}/runs", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", "name=windows"]
    before = set(inside.folder.rglob("*"))
    result = CliRunner().invoke(app, [*words, "model.backbone.name=swin_tiny_patch4_window7_224", *UNTRAINED])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert "swin_tiny_patch4_window7_224: it does not take images of any size" in " ".join(result.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]
    assert set(inside.folder.rglob("*")) == before
