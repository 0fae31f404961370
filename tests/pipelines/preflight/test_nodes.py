"""The report of a node, without a cluster; test_plan.py and test_two_hosts.py use one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mrqm.config import Config
from pipelines.preflight.nodes import inspect_node, own_versions, probe_folder
from pipelines.storage.filesystem import StorageError

MakeConfig = Callable[..., Config]


@pytest.fixture
def make(tiny_config: MakeConfig, squares: Callable[..., Path], tmp_path: Path) -> MakeConfig:
    root = squares()

    def build(*overrides: str) -> Config:
        return tiny_config(f"data.root={root}", f"output_dir={tmp_path}/deep/runs", *overrides)

    return build


def test_a_node_reads_the_probe_and_answers_with_a_file(make: MakeConfig) -> None:
    config = make()
    with probe_folder(config) as storage:
        report = inspect_node(config, storage.path.rpartition("/")[2], "node-1", "host (10.0.0.1)")
        assert storage.read("node-1") is not None
    assert (report.data_fault, report.output_fault) == ("", "")
    assert report.versions == own_versions()
    assert report.data is not None and report.data[0] == 8  # two images and two texts of each split


def test_nothing_of_the_probe_stays_not_even_folders_made_for_it(make: MakeConfig, tmp_path: Path) -> None:
    with probe_folder(make()):
        assert (tmp_path / "deep").exists()
    assert not (tmp_path / "deep").exists()


def test_what_was_there_before_the_probe_stays(make: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "deep" / "runs" / "other").mkdir(parents=True)
    with probe_folder(make()):
        pass
    assert [path.name for path in (tmp_path / "deep" / "runs").iterdir()] == ["other"]


def test_another_disk_under_the_same_path_is_noticed(make: MakeConfig, tmp_path: Path) -> None:
    config = make()
    with probe_folder(config):
        elsewhere = make(f"output_dir={tmp_path}/local")
        assert inspect_node(elsewhere, ".mrqm-plan-0", "node-1", "host").output_fault == "it is another folder there"


def test_data_that_a_node_does_not_have_is_said(make: MakeConfig) -> None:
    config = make("data.root=/nowhere")
    with probe_folder(config) as storage:
        report = inspect_node(config, storage.path.rpartition("/")[2], "node-1", "host")
    assert report.data is None
    assert "/nowhere: no files in train and val" in report.data_fault


def test_a_place_that_cannot_be_written_is_refused(make: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"), probe_folder(make(f"output_dir={tmp_path}/file/runs")):
        pass
