"""The registry's client, against a real SQLite store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mrqm.config import Config
from mrqm.inference.detector import load
from pipelines.registry.client import open_registry
from pipelines.registry.register import register
from pipelines.storage.run_dir import RunFolder
from pipelines.tracking.tracker import Tracker

from ..registered import METRICS, STAMP, free_port, refuse, register_run, registry, succeed

AddVersion = Callable[..., str]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("away_from_the_run")]


def test_a_registered_version_says_where_it_comes_from(client: MlflowClient) -> None:
    tags = client.get_model_version("spotter", "1").tags
    assert tags["run.name"] == "flight-7"
    assert tags["mrqm.version"] == "0.1.0"
    assert {"checkpoint.sha256", "config.digest", "evaluation.view", *STAMP} <= tags.keys()
    assert (tags["coco/AP"], tags["coco/AP_large"]) == ("0.31", "nan")


def test_words_find_versions(add_version: AddVersion, client: MlflowClient) -> None:
    name = add_version().partition("/")[0]
    add_version()
    client.set_registered_model_alias(name, "champion", "1")
    words = (f"{name}/1", f"{name}@champion", name, f"models:/{name}@champion")
    with open_registry() as opened:
        found = [opened.find(word).number for word in words]
    assert found == ["1", "1", "2", "1"]


def test_more_versions_than_a_page_are_all_found(add_version: AddVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *_ = (add_version().partition("/")[0] for _ in range(3))
    monkeypatch.setattr("pipelines.tracking.client.PAGE", 1)
    with open_registry() as opened:
        assert [version.number for version in opened.versions(name)] == ["3", "2", "1"]


def test_a_run_registers_its_model_once_whatever_that_is_called_now(
    client: MlflowClient, spotter_checkpoint: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config(f"output_dir={tmp_path}", "name=flight-8")
    register_run(config, spotter_checkpoint, "patrol")
    client.rename_registered_model("patrol", "watcher")
    with Tracker(config, RunFolder(config)) as tracker:
        again = register(tracker, spotter_checkpoint, METRICS, "patrol", STAMP)
    assert (again.name, again.version) == ("watcher", "1")


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("nobody", "no model 'nobody'"),
        ("nobody", "spotter"),
        ("spotter/9", "spotter has no version 9; it has 1"),
        ("spotter@beta", "spotter has no alias 'beta'; it has none"),
        ("spotter/1/2", "expected NAME/VERSION"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(word: str, named: str) -> None:
    assert named in refuse("show", word)


def test_the_store_is_named_by_settings_by_a_file_or_by_the_environment(
    registry_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "store.yaml").write_text(f"tracking: {{uri: '{registry_store}'}}\n")
    named = [f"tracking.uri={registry_store}"], ["-c", "store.yaml"]
    for words in named:
        assert "spotter" in succeed("list", *words)
        assert "spotter" in succeed("list", "spotter", *words)
        assert "flight-7" in succeed("show", "spotter/1", *words)
        assert "+0.000" in succeed("compare", "spotter/1", "spotter", *words)
        assert "has no alias" in refuse("rollback", "spotter", *words)
        assert "it has no coco/F1" in refuse("promote", "spotter/1", "--metric", "coco/F1", *words)
        assert "checkpoint of spotter" in succeed("download", "spotter", "--out", f"out{len(words)}", *words)
    other = "tracking.uri=sqlite:///other.db"
    assert f"{tmp_path}/other.db: no such database" in refuse("list", "-c", "store.yaml", other)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry_store)
    assert "spotter" in succeed("list", other)
    code, output = registry("show", "spotter", "train.epochs=3")
    assert code == 2
    assert "expected tracking.KEY=VALUE" in output


def test_a_missing_database_is_named_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert f"{tmp_path}/mlflow.db: no such database" in refuse("list")
    assert not list(tmp_path.iterdir())


def test_a_store_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    assert "http://127.0.0.1" in refuse("list")


def test_a_downloaded_checkpoint_is_the_registered_one(spotter_checkpoint: Path, tmp_path: Path) -> None:
    assert "checkpoint of spotter version 1" in succeed("download", "spotter", "--out", "deep/er")
    folder = tmp_path / "deep" / "er"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in spotter_checkpoint.iterdir() if path.name != "training.pt"
    }
    assert load(folder).classes == ("a", "b", "c")
    assert "already exists" in refuse("download", "spotter", "--out", "deep/er")


def test_weights_that_are_not_the_registered_ones_are_refused(add_version: AddVersion, tmp_path: Path) -> None:
    version = add_version(**{"checkpoint.sha256": "0" * 64})
    assert "not the registered ones" in refuse("download", version, "--out", "out")
    assert not list(tmp_path.iterdir())
