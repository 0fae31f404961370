"""The identity of a sweep, and its extensions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrqm.config import Config
from pipelines.storage.fingerprint import require_same
from pipelines.storage.run_dir import RunError, RunFolder
from tune.space.compatibility import find_differences
from tune.space.schema import make_space
from tune.state.fingerprint import begin_sweep, fingerprint_of
from tune.state.journal import JOURNAL, Journal
from tune.state.records import SessionBegan, TrialBegan

TinyConfig = Callable[..., Config]
BASE: dict[str, Any] = {
    "name": "s",
    "parameters": {"optim.lr": {"loguniform": [1e-4, 1e-2]}, "train.seed": {"int": [1, 4]}},
    "budget": {"trials": 3},
}


@pytest.fixture
def make(tiny_config: TinyConfig, tmp_path: Path) -> TinyConfig:
    return lambda *overrides: tiny_config(f"output_dir={tmp_path}/runs", *overrides)


def start(config: Config, **change: Any) -> Path:
    """Begin a sweep, or go on with it."""
    folder = RunFolder(config)
    begin_sweep(config, folder, fingerprint_of(config, make_space(BASE | change)))
    return folder.path


def begin_as_before(config: Config, trial: Config | None = None, **space: Any) -> Path:
    """Begin a sweep as versions without fingerprints did."""
    path = RunFolder(config).path
    path.mkdir(parents=True)
    journal = Journal(path / JOURNAL)
    journal.write(SessionBegan(trials=3))
    journal.write(TrialBegan(trial=0, params={"optim.lr": 1e-3, "train.seed": 1}))
    journal.close()
    if space:
        (path / "space.yaml").write_text(make_space(space).to_yaml())
    if trial:
        (path / "trial-0000" / "epoch_0001").mkdir(parents=True)
        (path / "trial-0000" / "epoch_0001" / "config.yaml").write_text(trial.to_yaml())
    return path


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"budget": {"trials": 9, "hours": 2}},
        {"parameters": {"optim.lr": {"loguniform": [1e-5, 1]}, "train.seed": {"int": [0, 4]}}},
        {"description": "more words"},
        {"fixed": {"optim.lr": 1e-3}},
    ],
)
def test_what_extends_a_space_is_allowed_and_kept(make: TinyConfig, change: dict[str, Any]) -> None:
    start(make())
    path = start(make(), **change)
    assert (path / "space.yaml").read_text() == make_space(BASE | change).to_yaml()
    if "parameters" in change:
        with pytest.raises(RunError, match=r"parameters\.optim\.lr: was 1e-05 … 1 log, is now"):
            start(make())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"parameters": BASE["parameters"] | {"optim.lr": {"loguniform": [1e-3, 1e-2]}}},
            r"was 0\.0001 … 0\.01 log",
        ),
        ({"parameters": {"optim.lr": {"loguniform": [1e-4, 1e-2]}}}, r"parameters\.train\.seed: removed"),
        ({"objective": "coco/AP50"}, "objective: was .*, is now .*AP50"),
        ({"search": {"seed": 1}}, r"search: .*seed: 0.*, is now"),
        ({"points_to_evaluate": [{"optim.lr": 1e-3}]}, r"points_to_evaluate: was \[\], is now .*"),
    ],
)
def test_what_changes_a_space_is_refused_and_leaves_it(make: TinyConfig, change: dict[str, Any], message: str) -> None:
    path = start(make())
    before = {file: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(RunError, match=f"(?s)sweep tiny in .* has another configuration:.*{message}"):
        start(make(), **change)
    assert {file: file.read_bytes() for file in path.iterdir()} == before


def test_another_configuration_is_refused_whoever_sets_it(make: TinyConfig) -> None:
    """Also for a key that is searched: trials of `start` may leave it to the configuration."""
    start(make())
    with pytest.raises(RunError, match=r"optim\.weight_decay: was 0\.0001, is now 0\.5"):
        start(make("optim.weight_decay=0.5"))
    with pytest.raises(RunError, match=r"optim\.lr: was 0\.001, is now 0\.5"):
        start(make("optim.lr=0.5"))


def test_a_number_that_was_read_as_a_word_is_the_same() -> None:
    words = {"parameters": {"optim.lr": {"choice": ["1e-4", "1e-3"]}}, "points_to_evaluate": [{"optim.lr": "1e-4"}]}
    numbers = {"parameters": {"optim.lr": {"choice": [1e-4, 1e-3]}}, "points_to_evaluate": [{"optim.lr": 1e-4}]}
    assert find_differences(make_space(BASE | words), make_space(BASE | numbers)) == []


def test_a_sweep_without_a_fingerprint_goes_on_and_gets_one(make: TinyConfig) -> None:
    trial = make("name=trial-0000", "optim.lr=0.003", "train.seed=4", "data.classes=[a, b]")
    path = begin_as_before(make(), trial, **BASE)
    start(make())
    assert (path / "fingerprint.json").is_file()
    with pytest.raises(RunError, match=r"train\.epochs"):
        start(make("train.epochs=7"))


def test_a_sweep_of_which_only_the_journal_is_left_goes_on(make: TinyConfig) -> None:
    begin_as_before(make())
    start(make(), objective="coco/AP50")


def test_a_sweep_without_a_fingerprint_is_refused_with_the_reason(make: TinyConfig) -> None:
    path = begin_as_before(make(), make("name=trial-0000", "optim.lr=0.003"), **BASE)
    with pytest.raises(RunError, match=r"(?s)optim\.weight_decay: .*begun by a version without fingerprints"):
        start(make("optim.weight_decay=0.5"))
    with pytest.raises(RunError, match=r"objective: "):
        start(make(), objective="coco/AP50")
    shutil.rmtree(path / "trial-0000")
    start(make("optim.weight_decay=0.5"))


def test_a_run_is_no_sweep_and_a_sweep_no_run(make: TinyConfig) -> None:
    from pipelines.storage.fingerprint import begin
    from pipelines.storage.fingerprint import fingerprint_of as fingerprint_of_run

    run, swept, old = make("name=run"), make("name=swept"), make("name=old")
    begin(run, RunFolder(run), fingerprint_of_run(run))
    start(swept)
    begin_as_before(old, **BASE)
    with pytest.raises(RunError, match="runs/run is a run, not a sweep"):
        start(run)
    for sweep in (swept, old):
        with pytest.raises(RunError, match="is a sweep, not a run"):
            require_same(sweep, RunFolder(sweep), fingerprint_of_run(sweep))
