"""A job works in the cluster's folder, with the files that came with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.command_line import FILES
from pipelines.process.job_cwd import JOB, SUBMITTED_IN, as_submitted, enter_job_cwd

ROOT = Path(__file__).parents[3]


def run_as_job(came: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name != "MRQM_ROOT"}
    environment = {**own, JOB: "{}", "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "mrqm", *words]
    return subprocess.run(command, cwd=came, env=environment, capture_output=True, text=True, timeout=120)


def test_relative_paths_are_the_clusters_and_configurations_came_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came, root = tmp_path / "came", tmp_path / "shared"
    came.mkdir()
    root.mkdir()
    (came / "mine.yaml").touch()
    (came / "space.yaml").touch()
    monkeypatch.chdir(came)
    monkeypatch.setenv("MRQM_ROOT", str(root))
    monkeypatch.setenv(SUBMITTED_IN, "")
    words = ["tune", "-c", "mine.yaml", "--space=space.yaml", "mine.yaml", "data.root=data"]
    assert enter_job_cwd(words, FILES) == ["tune", "-c", f"{came}/mine.yaml", f"--space={came}/space.yaml", *words[4:]]
    assert Path.cwd() == root
    assert as_submitted(came / "mine.yaml") == Path("mine.yaml")
    assert as_submitted(root / "other.yaml") == root / "other.yaml"


def test_a_job_reads_the_configuration_that_came_with_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("optim: {lr: high}\n")
    (tmp_path / "shared").mkdir()
    done = run_as_job(tmp_path, "train", "-c", "mine.yaml", MRQM_ROOT=str(tmp_path / "shared"))
    assert "optim.lr" in done.stderr


def test_a_folder_that_is_not_mounted_is_named(tmp_path: Path) -> None:
    done = run_as_job(tmp_path, "registry", "list", MRQM_ROOT=str(tmp_path / "gone"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: MRQM_ROOT={tmp_path}/gone: ")


def test_without_one_it_is_said_where_relative_paths_lie(tmp_path: Path) -> None:
    done = run_as_job(tmp_path, "--version", HOME=str(tmp_path))
    assert f"relative paths lie in {tmp_path}/mrqm" in done.stdout
