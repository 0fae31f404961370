"""A registry that is shared with strangers, whose names, tags, runs and versions are anything: a real SQLite store."""

from __future__ import annotations

import io
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from rich.console import Console

from mrqm.config import ConfigError, make_config
from pipelines.registry.client import open_registry
from pipelines.registry.model_version import printable
from pipelines.registry.report import print_version

from ..registered import refuse, registry, succeed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("strangers_store")]

NAMES = (
    "bob's model", 'say "hi"', "both ' and \"", "50% off", "ünïcødé 模型 🛩", "with@at", "what?", "a#b", " lead",
    "new\nline", "tab\there", "semi;colon", "back\\slash", "ends\\", "back`tick", "[red]x", "[bold", "\x1b[31mred",
    "a&b=c", "spotter@champion", "tracking.uri", "-n", "x" * 200, "1", "latest",
)  # fmt: skip
OLD_NAMES = ("team/model", "a/1", "c:d", "..")
"""Names that MLflow once allowed and no longer does."""
TAGS = {
    "coco/note": "best one, ask Bob",
    "coco/AP": "n/a",
    "coco/AP50": "",
    "visdrone/AP": "inf",
    "coco/AP/a b/c": "0.5",
    "data.digest": "\x1b[2J[red]",
    "former.champion": "seven ' 99",
    "protocol.coco": "new\nline",
}


@pytest.fixture(scope="module")
def strangers_database(registry_store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the store with `spotter`, with unusual entries of other programs."""
    path = tmp_path_factory.mktemp("strangers") / "mlflow.db"
    shutil.copy(registry_store.removeprefix("sqlite:///"), path)
    client = MlflowClient(f"sqlite:///{path}")
    deleted = client.create_run("0").info.run_id
    for name in NAMES:
        client.create_registered_model(name, tags=TAGS)
        client.create_model_version(name, "file:///nowhere", None, tags=TAGS)
        client.create_model_version(name, "s3://bucket/x?session_token=hunter2", deleted, tags=TAGS)
        client.set_registered_model_alias(name, "champion", "1")
    client.create_registered_model("empty")
    client.delete_run(deleted)
    with sqlite3.connect(path) as database:
        for name in OLD_NAMES:
            database.execute(
                "INSERT INTO registered_models (name, creation_time, last_updated_time, workspace) "
                "VALUES (?, 1, 1, 'default')",
                (name,),
            )
            database.execute(
                "INSERT INTO model_versions (name, version, current_stage, source, run_id, workspace, status) "
                "VALUES (?, 1, 'None', 'nonsense', 'no such run', 'default', 'READY')",
                (name,),
            )
            database.execute(
                "INSERT INTO model_version_tags (name, version, key, value, workspace) "
                "VALUES (?, 1, 'coco/AP [/x]', '0.5', 'default')",
                (name,),
            )
    database.close()
    return path


@pytest.fixture
def strangers_store(
    strangers_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MlflowClient]:
    uri = f"sqlite:///{strangers_database}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    return MlflowClient(uri)


def test_the_list_shows_every_model_and_says_what_it_passed_over() -> None:
    output = succeed("list")
    for name in ("bob's model", 'say "hi"', "50% off", "with@at", "team/model", "[red]x", "empty"):
        assert name in output
    assert "skipped metrics without a number: " in output
    assert "(coco/AP, coco/AP50, coco/note, visdrone/AP)" in " ".join(output.split())
    assert "\x1b" not in output


def test_every_model_is_found_and_shown_whatever_its_name() -> None:
    with open_registry() as opened:
        for name in (*NAMES, *OLD_NAMES):
            version = opened.find(f"{name}/1")
            assert (version.name, version.number) == (name, "1")
            text = io.StringIO()
            print_version(version, opened, Console(file=text, width=80))
            assert f"{printable(name)} version 1" in text.getvalue()
            assert "hunter2" not in text.getvalue()
            assert "\x1b" not in text.getvalue()


@pytest.mark.parametrize("name", ["both ' and \"", "with@at", "new\nline", "[red]x", "\x1b[31mred", "-n", "team/model"])
def test_every_command_survives_every_name(name: str) -> None:
    for words in (
        ("list", "--", name),
        ("show", "--", f"{name}@champion"),
        ("compare", "--", f"{name}/1", "spotter/1"),
        ("promote", "--alias", "tried", "--", f"{name}/1"),
        ("rollback", "--", name),
        ("download", "--out", "out", "--", f"{name}/1"),
    ):
        code, output = registry(*words)
        assert code in (0, 2), output
        assert "hunter2" not in output
        assert "\x1b" not in output


def test_a_name_with_an_at_is_told_from_an_alias() -> None:
    with open_registry() as opened:
        assert str(opened.find("with@at/1")) == "with@at version 1"
        assert str(opened.find("with@at")) == "with@at version 2"
        assert str(opened.find("with@at@champion")) == "with@at version 1"
        assert str(opened.find("team/model")) == "team/model version 1"


def test_a_stranger_cannot_pose_as_somebodys_alias(strangers_store: MlflowClient) -> None:
    strangers_store.set_registered_model_alias("spotter", "champion", "1")
    with open_registry() as opened:
        assert str(opened.find("spotter@champion")) == "spotter version 1"
    strangers_store.delete_registered_model_alias("spotter", "champion")


def test_figures_are_compared_where_the_settings_cannot_be() -> None:
    output = succeed("compare", "spotter/1", "bob's model/1")
    assert "coco/AP50" in output
    assert "settings are not compared: bob's model version 1: the store does not provide its config.yaml" in output


def test_a_version_that_was_trained_elsewhere_says_so() -> None:
    assert "view the run none" in " ".join(succeed("show", "with@at/1").split())
    assert "it is deleted" in succeed("show", "with@at/2")


def test_a_renamed_model_is_found_by_its_run_and_its_former_name(strangers_store: MlflowClient) -> None:
    run_id = strangers_store.get_model_version("spotter", "1").run_id
    strangers_store.rename_registered_model("spotter", "watcher")
    assert "watcher version 1" in succeed("show", f"runs:/{run_id}")
    assert "the model registered by that name is called watcher now" in refuse("show", "spotter/1")
    strangers_store.rename_registered_model("watcher", "spotter")
    assert "has registered no model" in refuse("show", "runs:/0123")


@pytest.mark.parametrize("name", ["team/model", "a:b", "", "  ", "..", "x" * 300])
def test_a_name_that_the_store_refuses_is_refused_before_anything_starts(
    name: str, strangers_store: MlflowClient
) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.registered_model_name: "):
        make_config({"tracking": {"registered_model_name": name}})
    if len(name) < 256:  # SQLite alone takes longer ones
        with pytest.raises(MlflowException):
            strangers_store.create_registered_model(name)


@settings(
    max_examples=10,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40),
    tag=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
)
def test_any_name_and_tag_leave_the_registry_usable(strangers_store: MlflowClient, name: str, tag: str) -> None:
    try:
        strangers_store.create_registered_model(name)
        strangers_store.create_model_version(name, "file:///nowhere", None, tags={"coco/AP": tag, "note": tag})
    except MlflowException:
        return
    try:
        assert "version" in succeed("list")
        assert " version 1" in succeed("show", "--", f"{name}/1")
        assert registry("compare", "--", f"{name}/1", "spotter/1")[0] == 0
    finally:
        strangers_store.delete_registered_model(name)
