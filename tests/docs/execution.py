"""How each command of the documents is executed: really where it takes seconds, else planned, else parsed."""

from __future__ import annotations

import argparse
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mrqm.__main__ import _read_submitted, app

from ..pages import ROOT

TINY_MODEL = (
    "model.backbone.name=test_resnet", "model.backbone.weights=WEIGHTS.safetensors", "model.hidden_dim=32",
    "model.num_heads=4", "model.num_points=2", "model.ffn_dim=64", "model.num_queries=20", "model.decoder_layers=1",
    "loss.one_to_many.max_queries=16", "data.loader_workers=0",
)  # fmt: skip
QUICK = {
    "demo-data": ("--train", "8", "--val", "2", "--size", "160", "160"),
    "train": (*TINY_MODEL, "train.epochs=12", "scaling.num_workers=1"),
    "plan": TINY_MODEL,
    "tune": (*TINY_MODEL, "--dry-run"),
}
"""What is added to commands, so that they end soon."""
TRAINED = {"configs/visdrone_mini.yaml", "configs/small_data.yaml"}
"""Configurations whose training is done whole: the evaluation of its checkpoint comes next. Others are planned."""
ELSEWHERE = {
    "docker": "needs Docker", "kubectl": "needs Kubernetes",
    "mlflow": "tests/pipelines/registry/test_serving.py serves a model",
    "ray": "tests/cluster/files/test_documents.py knows its options", ".": "activates an environment",
}  # fmt: skip
"""Programs whose commands cannot be run by a test here, and why; files that they name have to exist."""


class UnknownCommandError(Exception):
    """A command of the documents that no test executes."""


class StoppedError(Exception):
    """What takes minutes would begin now: all before it is done."""


def execute(words: Sequence[str], folder: Path) -> str:
    """Execute a command in a folder that has what it names; returns what it said.

    Raises:
        UnknownCommandError: nobody has said how.
    """
    match words:
        case ["mrqm", *rest]:
            return _run_mrqm(rest, folder)
        case ["make", target]:
            return _make(target, folder)
        case ["python", "-m", "cluster.new_secrets"]:
            return _run_python(words[1:], folder)
        case ["python", script, *rest] if script.startswith("benchmarks/"):
            return _parse_benchmark(script, rest)
        case ["pip", "install", requirement]:
            return _find_extra(requirement)
        case ["export", assignment]:
            return assignment
        case ["cd", _] | ["chmod", _, _] | ["mkdir", "-p", _]:
            return ""
        case [program, *rest] if program in ELSEWHERE:
            return _find_files(rest, folder)
    raise UnknownCommandError(" ".join(words))


def _run_mrqm(words: Sequence[str], folder: Path) -> str:
    """A command of `mrqm` in this process, at 80 columns."""
    if words[0] == "submit":
        return _submit(words, folder)
    if words[0] in ("jobs", "cluster"):  # tests/cluster/test_cluster.py runs them
        _parse(words)
        return ""
    if words[0] == "train" and TRAINED.isdisjoint(words):
        words = ["plan", *words[1:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pipelines.export.onnx.write_onnx", _stop
        )  # minutes: tests/pipelines/export/test_export.py exports
        result = CliRunner().invoke(app, [*words, *_quicker(words)], env={"COLUMNS": "80"})
    if isinstance(result.exception, StoppedError):
        return result.output
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, f"mrqm {' '.join(words)} ended with {result.exit_code}\n{result.output}"
    return result.output


def _quicker(words: Sequence[str]) -> Sequence[str]:
    """List what is added to a command; a tiny model cannot start from the detector of a recipe."""
    added = QUICK.get(words[0], ())
    if TINY_MODEL[0] not in added or any(word.startswith("model.init=") for word in words):
        return added
    return (*added, "model.init=null")


def _stop(*_: object, **__: object) -> None:
    raise StoppedError


def _submit(words: Sequence[str], folder: Path) -> str:
    """Parse `mrqm submit`, and check what it sends as it does before sending."""
    _parse(words[: words.index("--") + 2])
    sent = words[words.index("--") + 1 :]
    _read_submitted(sent, folder)
    _parse(sent)
    return ""


def _parse(words: Sequence[str]) -> None:
    """Let the real command line read a command without running it."""
    command = typer.main.get_command(app)
    while names := getattr(command, "commands", None):
        if words[0] not in names:
            raise UnknownCommandError(f"mrqm … {words[0]}")
        command, words = names[words[0]], words[1:]
    command.make_context("mrqm", list(words))


def _make(target: str, folder: Path) -> str:
    """The commands of `mrqm` that a target of the Makefile runs."""
    shown = subprocess.run(["make", "--no-print-directory", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    commands = [line.partition("/bin/mrqm ")[2].split() for line in shown.stdout.splitlines() if "/bin/mrqm " in line]
    assert commands or target in ("install", "check", "docs", "test", "test-fast"), shown.stdout
    return "".join(_run_mrqm(words, folder) for words in commands)


def _run_python(words: Sequence[str], folder: Path) -> str:
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _parse_benchmark(script: str, words: Sequence[str]) -> str:
    """Let a benchmark, which takes minutes, read its command line and stop there."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self: argparse.ArgumentParser, *given: object) -> None:
        parse(self)
        raise SystemExit(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *words])
        patch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / script), run_name="__main__")
    assert ended.value.code == 0, f"{script} does not take {' '.join(words)}"
    return ""


def _find_extra(requirement: str) -> str:
    name, _, extra = requirement.rstrip("]").partition("[")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert name == project["name"]
    assert extra in project["optional-dependencies"], requirement
    return ""


def _find_files(words: Sequence[str], folder: Path) -> str:
    """Check that files of the project that a command names are there."""
    made = ("cluster/secrets", "cluster/state")
    for word in words:
        path = word.rpartition("=")[2]
        if path.startswith(("cluster/", "configs/")) and not path.startswith(made):
            assert (folder / path).exists(), path
    return ""
