"""The output of `mrqm registry list`, `show` and `compare`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mrqm.config import Config

from ..registered import STAMP, refuse, succeed

TinyConfig = Callable[..., Config]
AddVersion = Callable[..., str]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("away_from_the_run")]


def test_the_list_has_a_line_for_each_version_and_fits_in_100_columns(
    add_version: AddVersion, client: MlflowClient
) -> None:
    first, second = add_version(0.4), add_version(**{"coco/AP": None, "data.digest": None})
    name = first.partition("/")[0]
    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_alias(name, "production-candidate", "1")
    lines = succeed("list", name).splitlines()
    assert lines[0].split() == ["model", "version", "coco/AP", "coco/AP50", "aliases", "data", "created"]
    text = " ".join(lines[1:])
    assert text.index("–") < text.index("0.400")  # newest first
    assert "champion, " in text and "ab12ab12ab12 " in text and second.partition("/")[2] in text
    assert all(len(line.rstrip()) <= 100 for line in lines)
    assert "spotter" not in text
    assert "spotter" in succeed("list")


def test_show_tells_everything_of_a_version(client: MlflowClient, registry_store: str) -> None:
    version = client.get_model_version("spotter", "1")
    output = succeed("show", "spotter/1")
    assert "spotter version 1" in output.splitlines()[0]
    assert "AP50" in output and "0.520" in output
    for value in (*STAMP.values(), version.tags["checkpoint.sha256"], version.tags["config.digest"], version.run_id):
        assert value in output
    assert "flight-7" in output
    assert f"ui --backend-store-uri {registry_store}" in output


def test_a_version_whose_run_is_deleted_is_still_shown(add_version: AddVersion, client: MlflowClient) -> None:
    name, _, number = add_version().partition("/")
    run_id = client.create_run("0").info.run_id
    client.create_model_version(name, client.get_model_version(name, number).source, run_id, tags=STAMP)
    assert "it is deleted" not in succeed("show", f"{name}/2")
    client.delete_run(run_id)
    assert "it is deleted" in succeed("show", f"{name}/2")


def test_comparable_figures_are_shown_with_their_differences(add_version: AddVersion) -> None:
    output = succeed("compare", add_version(0.31), add_version(0.3361))
    assert row(output, "coco/AP") == ["coco/AP", "0.310", "0.336", "+0.026"]
    assert "their configurations are the same" in output


def test_figures_of_other_data_are_shown_without_differences(add_version: AddVersion) -> None:
    output = succeed("compare", add_version(0.31), add_version(0.33, **{"data.digest": "cd34" * 16}))
    assert row(output, "coco/AP") == ["coco/AP", "0.310", "0.330"]
    assert "not comparable under coco" in output
    assert "data.digest: ab12ab12ab12 (version 1), cd34cd34cd34 (version 2)" in output


def test_settings_that_differ_are_compared(add_version: AddVersion, model_files: Path, tiny_config: TinyConfig) -> None:
    config = tiny_config("data.classes=[a, b, c]", "optim.lr=0.25", "data.tile={size: 64, overlap: 16}")
    (model_files / "artifacts/checkpoint/config.yaml").write_text(config.to_yaml())
    output = succeed("compare", add_version(), add_version(source=str(model_files)))
    assert row(output, "optim.lr") == ["optim.lr", "0.001", "0.25"]
    assert row(output, "data.tile.size") == ["data.tile.size", "–", "64"]
    assert "optim.weight_decay" not in output


def test_files_that_mrqm_did_not_register_are_named(add_version: AddVersion, model_files: Path) -> None:
    shutil.rmtree(model_files / "artifacts")
    foreign = add_version(source=str(model_files))
    assert f"settings are not compared: {foreign.replace('/', ' version ')}: " in succeed("compare", foreign, "spotter")
    assert "not a model that mrqm registered" in refuse("download", foreign, "--out", "out")


def row(output: str, first: str) -> list[str]:
    return next(words for line in output.splitlines() if (words := line.split())[:1] == [first])
