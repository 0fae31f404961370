"""A sweep as rows of a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mrqm.config import Config, ConfigError
from tune.report.preflight import SweepToPlan
from tune.space.schema import SpaceError

TinyConfig = Callable[..., Config]

SPACE = """
objective: coco/AP
search: {algorithm: random}
budget: {trials: 6}
parameters:
  optim.lr: {loguniform: [1.0e-4, 1.0e-2]}
  model.ffn_dim: {choice: [64, 256]}
"""


@pytest.fixture
def files(tiny_config: TinyConfig, tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "tiny.yaml").write_text(tiny_config(f"output_dir={tmp_path}/runs").to_yaml())
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path / "tiny.yaml", tmp_path / "space.yaml"


def test_trials_and_their_disk_are_planned_on_the_clusters_nodes(files: tuple[Path, Path]) -> None:
    sweep = SweepToPlan(*files, ["scaling.num_workers=2"])
    trials, disk = sweep.checks([{"CPU": 4.0}, {"CPU": 1.0}])
    assert (trials.status, disk.status) == ("ok", "ok")
    assert trials.finding == "6 of 2 epochs, 2 at once, each on 2 workers × 1 CPU"
    assert disk.finding.startswith("at most ")
    assert sweep.largest.model.ffn_dim == 256


def test_no_room_for_one_trial_is_an_error(files: tuple[Path, Path]) -> None:
    trials, _ = SweepToPlan(*files, ["scaling.num_workers=2"]).checks([{"CPU": 1.0}])
    assert trials.status == "error"


def test_what_a_sweep_would_be_refused_with_is_raised(files: tuple[Path, Path]) -> None:
    with pytest.raises(SpaceError, match=r"optim\.lr: set and searched at once"):
        SweepToPlan(*files, ["optim.lr=1"])
    with pytest.raises(ConfigError):
        SweepToPlan(*files, ["train.epochs=0"])
