"""Command line as a user runs it, in real processes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..commands import Command

Mrqm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def mrqm(tmp_path: Path) -> Mrqm:
    """Run `python -m mrqm` in an empty folder."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "mrqm", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
def forked(tmp_path: Path) -> Mrqm:
    """Run the same in a forked process, for commands that import much."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = Command(tmp_path, arguments)
        return subprocess.CompletedProcess(arguments, command.end(), command.output, command.errors)

    return run


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("data: {root: nowhere}\nmodel: {backbone: {weights: none, frozen_batch_norm: false}}\n")
    return path


def assert_error(result: "subprocess.CompletedProcess[str]", *words: str) -> None:
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_help_lists_the_commands(mrqm: Mrqm) -> None:
    result = mrqm("--help")
    assert result.returncode == 0
    assert all(
        command in result.stdout
        for command in ("train", "evaluate", "prepare", "demo-data", "registry", "submit", "jobs")
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from mrqm.__main__ import main\n"
        "sys.argv = ['mrqm', '--help']\n"
        "try: main()\n"
        "except SystemExit: print('heavy:', {'torch', 'ray', 'mlflow', 'numpy', 'pydantic'} & set(sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "heavy: set()" in result.stdout


def test_version_is_printed(mrqm: Mrqm) -> None:
    assert mrqm("--version").stdout == "mrqm 0.1.0\n"


def test_missing_config_file_is_named(mrqm: Mrqm) -> None:
    assert_error(mrqm("train", "-c", "absent.yaml"), "absent.yaml")


def test_bad_overrides_are_named_with_their_keys(mrqm: Mrqm, config_file: Path) -> None:
    assert_error(mrqm("train", "-c", str(config_file), "optim.lr=high", "modle.x=1"), "optim.lr", "'high'", "modle")


def test_verbose_shows_where_an_error_comes_from(mrqm: Mrqm) -> None:
    result = mrqm("--verbose", "train", "-c", "absent.yaml")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_folder_that_is_no_checkpoint_is_named(forked: Mrqm, tmp_path: Path) -> None:
    assert_error(forked("evaluate", str(tmp_path)), str(tmp_path), "config.yaml")


def test_demo_data_writes_both_splits(forked: Mrqm, tmp_path: Path) -> None:
    result = forked("demo-data", "demo", "--train", "2", "--val", "1", "--size", "64", "96")
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "demo" / "train" / "images").iterdir())) == 2
    assert len(list((tmp_path / "demo" / "val" / "annotations").iterdir())) == 1


@pytest.mark.slow
def test_prepare_names_what_is_wrong(forked: Mrqm, tmp_path: Path) -> None:
    assert_error(forked("prepare", "visdrone", "nowhere", "--check"), str(tmp_path / "nowhere"), "no such folder")
    assert_error(forked("prepare", "voc", "nowhere", "--check"), "dataset", "'soda-d'", "'voc'")
    assert "--check" in forked("prepare", "visdrone", "nowhere").stderr


@pytest.mark.slow
def test_missing_data_folder_ends_before_anything_starts(forked: Mrqm, config_file: Path, tmp_path: Path) -> None:
    assert_error(forked("train", "-c", str(config_file)), str(tmp_path / "nowhere"), "data.root")


@pytest.mark.slow
def test_missing_weights_file_is_named(forked: Mrqm, config_file: Path) -> None:
    result = forked("train", "-c", str(config_file), "model.backbone.weights=gone.safetensors")
    assert_error(result, "model.backbone.weights", "gone.safetensors")
