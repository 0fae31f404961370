"""The name of a submitted command, and the files that it needs on the cluster."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.command_line import CommandLine, read_command_line
from cluster.errors import ClusterError
from cluster.jobs.package import pack
from mrqm.redaction import redact

NOW = datetime(2026, 11, 24, 15, 30, 12)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "r50.yaml").write_text("name: drones\ndata: {root: data/drones}\nmodel: {hidden_dim: 8}\n")
    (root / "configs" / "nameless.yaml").write_text("data: {root: s3://bucket/drones}\n")
    (root / ".gitignore").write_text("/data/\n/local.yaml\n")
    (root / "local.yaml").write_text("name: local\n")
    (root / "data" / "drones").mkdir(parents=True)
    (tmp_path / "outside.yaml").write_text("name: outside\n")
    return root


def read(folder: Path, *words: str) -> CommandLine:
    return read_command_line(words, pack(folder), read_file, redact)


def read_file(words: Sequence[str], folder: Path) -> dict[str, Any]:
    """Read a valid configuration file, as the composition root does."""
    options = dict(pairwise([part for word in words for part in word.split("=", 1)]))
    name = options.get("-c") or options.get("--config")
    if name is None or not (folder / name).exists():
        return {}
    return {"name": Path(name).stem, **yaml.safe_load((folder / name).read_text())}


def test_a_job_is_called_as_its_run(folder: Path) -> None:
    def name(*words: str) -> str:
        return read(folder, *words).submission_id(NOW)

    assert name("train", "-c", "configs/r50.yaml") == "drones-20261124-153012"
    assert name("train", "-c", "configs/r50.yaml", "name=night flight/2") == "night-flight-2-20261124-153012"
    assert name("train", "--config=configs/nameless.yaml") == "nameless-20261124-153012"
    assert name("registry", "list") == "registry-20261124-153012"


def test_the_cluster_runs_the_same_words(folder: Path) -> None:
    words = ["train", "-c", "configs/r50.yaml", "data.classes=[a, b]", "name=it's"]
    assert shlex.split(read(folder, *words).entrypoint) == ["python", "-m", "mrqm", *words]


@pytest.mark.parametrize(
    ("words", "itself"),
    [("evaluate m", True), ("predict m a.jpg -o out", True), ("predict m a.jpg --workers=2", False), ("train", False)],
)
def test_who_computes_is_known(words: str, itself: bool, folder: Path) -> None:
    assert read(folder, *words.split()).computes_itself is itself


def test_an_absolute_path_in_the_package_becomes_a_relative_one(folder: Path) -> None:
    assert read(folder, "train", "-c", str(folder / "configs/r50.yaml")).words[2] == "configs/r50.yaml"
    assert read(folder, "train", f"--config={folder}/configs/r50.yaml").words[1] == "--config=configs/r50.yaml"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["train", "-c", "configs/r51.yaml"], "-c configs/r51.yaml: there is no such file"),
        (["train", "--config=../outside.yaml"], "--config ../outside.yaml: lies outside of .* --working-dir"),
        (["train", "-c", "local.yaml"], "-c local.yaml: is not sent, because a .gitignore"),
        (["tune", "-c", "configs/r50.yaml", "--space", "space.yaml"], "--space space.yaml: there is no such file"),
    ],
)
def test_a_file_that_does_not_travel_is_refused_with_the_reason(folder: Path, words: list[str], reason: str) -> None:
    with pytest.raises(ClusterError, match=reason):
        read(folder, *words)


def test_a_file_of_the_clusters_image_is_left_to_it(folder: Path) -> None:
    words = ("train", "-c", "/opt/mrqm/configs/visdrone_r50.yaml")
    assert read(folder, *words).words == words


def test_passwords_are_refused_and_not_repeated(folder: Path) -> None:
    with pytest.raises(ClusterError, match=r"tracking.uri=http://me:\*\*\*@mlflow: .*password") as refused:
        read(folder, "train", "-c", "configs/r50.yaml", "tracking.uri=http://me:hunter2@mlflow")
    assert "hunter2" not in str(refused.value)


def test_a_file_with_a_password_does_not_travel(folder: Path) -> None:
    (folder / "configs" / "open.yaml").write_text("name: open\ntracking: {uri: 'http://me:hunter2@mlflow'}\n")
    for words in (("train", "-c", "configs/open.yaml"), ("tune", "--config=configs/open.yaml")):
        with pytest.raises(ClusterError, match=r"configs/open\.yaml, line 2: contains a password") as refused:
            read(folder, *words)
        assert "hunter2" not in str(refused.value)


def test_data_that_only_the_submitter_sees_is_found(folder: Path) -> None:
    def stays(*words: str) -> list[str]:
        return read(folder, *words).find_local_paths(folder)

    assert stays("train", "-c", "configs/r50.yaml") == ["data.root=data/drones"]
    assert stays("train", "-c", "configs/r50.yaml", "data.root=/shared/drones") == []
    assert stays("train", "-c", "configs/nameless.yaml") == []
    weights = f"model.backbone.weights={folder}/local.yaml"
    assert stays("train", "-c", "configs/nameless.yaml", weights) == [weights]
    assert stays("predict", "models:/drones/1", "data/drones", "--out", "configs") == ["data/drones"]
    assert stays("demo-data", "data/drones") == []
