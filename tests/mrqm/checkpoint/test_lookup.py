"""Lookup of checkpoints: a run's folder is its best checkpoint, and a wrong path is answered with the existing ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mrqm.checkpoint.files import CONFIG, METRICS, WEIGHTS
from mrqm.checkpoint.lookup import CheckpointError, find_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose second checkpoint scored best and whose last one was not evaluated."""
    folder = tmp_path / "runs" / "demo"
    for name, ap in (("epoch_0001", 0.1), ("epoch_0002", 0.3), ("epoch_0010", 0.2), ("epoch_0010_step_000123", None)):
        write(folder / name, ap)
    (folder / CONFIG).touch()
    return folder


def write(checkpoint: Path, ap: float | None) -> None:
    checkpoint.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        (checkpoint / name).touch()
    (checkpoint / METRICS).write_text(json.dumps({"train/loss": 1.0} if ap is None else {"coco/AP": ap}))


def test_a_checkpoint_is_itself(run: Path) -> None:
    assert find_checkpoint(str(run / "epoch_0001")) == run / "epoch_0001"


def test_a_run_stands_for_its_best_checkpoint(run: Path) -> None:
    assert find_checkpoint(run) == run / "epoch_0002"


def test_last_is_the_newest_of_a_run(run: Path) -> None:
    assert find_checkpoint(run / "last") == run / "epoch_0010_step_000123"


def test_of_equals_the_newest_is_best_and_nothing_to_measure_is_worse_than_zero(run: Path) -> None:
    write(run / "epoch_0011", 0.3)
    write(run / "epoch_0012", math.nan)
    assert find_checkpoint(run) == run / "epoch_0011"


def test_a_run_that_was_never_evaluated_stands_for_its_newest(tmp_path: Path) -> None:
    for name in ("epoch_0001", "epoch_0002"):
        write(tmp_path / name, None)
    assert find_checkpoint(tmp_path) == tmp_path / "epoch_0002"


def test_unfinished_checkpoints_do_not_count(run: Path) -> None:
    (run / "epoch_0020").mkdir()
    (run / ".epoch_0021").mkdir()
    assert find_checkpoint(run / "last").name == "epoch_0010_step_000123"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("runs/demo/epoch_0099", ["no such checkpoint", "epoch_0010, epoch_0002, epoch_0001", "runs/demo/last"]),
        ("runs/demo/epoch_0099/model.safetensors", ["no such checkpoint", "epoch_0002"]),
        ("runs/demmo", ["no such checkpoint", "there are checkpoints in", "runs/demo"]),
        ("runs", ["not a checkpoint folder: it has no config.yaml", "runs/demo"]),
        (".", ["not a checkpoint folder", "runs/demo"]),
        ("runs/demo/config.yaml", ["it is a file", "epoch_0002"]),
        ("elsewhere/x", ["no such checkpoint", "runs/demo"]),
        ("runs/new", ["a run without a checkpoint yet"]),
        ("empty", ["not a checkpoint folder", "mrqm train makes checkpoints"]),
    ],
)
def test_a_missing_one_lists_what_is_there(path: str, words: list[str], run: Path, tmp_path: Path) -> None:
    for name in ("runs/new", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "runs/new" / CONFIG).touch()
    with pytest.raises(CheckpointError) as refused:
        find_checkpoint(tmp_path / path)
    assert [word for word in (path.strip("."), *words) if word not in str(refused.value)] == []
