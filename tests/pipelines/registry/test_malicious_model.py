"""Commands take the weights of a registered model, never its code: only MLflow's own loading runs that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mrqm.__main__ import app

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("away_from_the_run")]


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Path of a file that exists once the model's code was executed."""
    return tmp_path / "executed"


@pytest.fixture
def malicious(model_files: Path, add_version: Callable[..., str], trap: Path) -> str:
    """Version in which every Python file writes the trap's file."""
    files = list(model_files.rglob("*.py"))
    assert files
    for file in files:
        file.write_text(f"open({str(trap)!r}, 'w').close()\n")
    return add_version(0.3, source=str(model_files))


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "models:/{model}", "image.png", "--out", "out"],
        ["registry", "download", "{model}", "--out", "out"],
        ["registry", "show", "{model}"],
    ],
)
def test_no_code_of_a_model_is_executed(words: list[str], malicious: str, trap: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "image.png")
    result = CliRunner().invoke(app, [word.format(model=malicious) for word in words])
    assert result.exit_code == 0, result.output
    assert not trap.exists()


def test_the_gate_loads_the_model_as_mlflow_does(malicious: str, trap: Path) -> None:
    """Proof that the trap works: it would detect the commands above executing the code."""
    CliRunner().invoke(app, ["registry", "promote", malicious])
    assert trap.exists()
