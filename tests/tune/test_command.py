"""`mrqm tune` as a user meets it: real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from ..commands import Command


@pytest.mark.slow
def test_a_bad_space_ends_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: {backbone: {weights: none, frozen_batch_norm: false}}")
    (tmp_path / "space.yaml").write_text("{parameters: {optim.rate: {uniform: [0, 1]}}, budget: {trials: 2}}")
    command = Command(tmp_path, ["tune", "-c", "config.yaml", "--space", "space.yaml"])
    assert command.end() == 2
    assert command.errors.startswith("error: space space is not usable:\n  parameters.optim.rate: unknown key; known")


def test_what_is_mistyped_is_said_before_ray_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    (tmp_path / "space.yaml").write_text("{parameters: {optim.lr: {uniform: [0, 1]}}, budget: {trials: 2}}")
    code = (
        "import sys\nfrom mrqm.__main__ import main\n"
        "sys.argv = 'mrqm tune -c config.yaml -s space.yaml optim.clip=1'.split()\n"
        "try:\n    main()\nfinally:\n    print({'ray', 'mlflow', 'torch'} & sys.modules.keys())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "set()\n")
    assert "optim.clip: unknown key; known here: lr" in ended.stderr
