"""`mrqm plan` as a user meets it: every row whatever the others found, a status for programs, nothing left behind."""

from __future__ import annotations

import io
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from mrqm.__main__ import app
from mrqm.check import Check
from mrqm.checkpoint.folder import save_checkpoint
from mrqm.config import load_config
from pipelines.preflight.plan import PlanError, parse_bytes, print_checks

from ..workplace import Workplace

Plan = Callable[..., Result]


@pytest.fixture
def plan(inside: Workplace) -> Plan:
    """Run `mrqm plan` in the workplace."""

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, ["plan", "-c", str(inside.config_file), *words])

    return run


def rows(result: Result) -> dict[str, dict[str, str]]:
    assert result.stdout, result.exception
    return {row["name"]: row for row in json.loads(result.stdout)["checks"]}


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_without_the_cluster_all_else_is_checked(
    plan: Plan, inside: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First test: later ones run in a Ray session that this process has joined, whatever RAY_ADDRESS is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
    found = rows(plan("--json", "--gpu-memory", "24GB", "name=alone"))
    assert {name for name, row in found.items() if row["status"] == "error"} == {"cluster"}
    assert "no Ray cluster answers there" in found["cluster"]["finding"]
    assert found["memory"]["status"] == "ok"
    assert found["output"]["finding"].endswith("written by this machine; no other was tested")
    assert not (inside.folder / "runs" / "alone").exists()


@pytest.mark.ray
def test_all_is_well_and_nothing_is_left_behind(plan: Plan, ray_here: None, inside: Workplace) -> None:
    before = contents(inside.folder)
    result = plan("--json", "output_dir=new/runs", "tracking.uri=sqlite:///new.db")
    assert result.exit_code == 0, result.output
    assert {name: row["finding"] for name, row in rows(result).items() if row["status"] == "error"} == {}
    assert list(rows(result)) == [
        "configuration", "backbone", "data train", "data train classes", "data val", "data val classes", "resume",
        "run", "disk", "mlflow", "cluster", "output", "nodes", "versions", "data on nodes", "model",
        "memory",
    ]  # fmt: skip
    assert "is new" in rows(result)["run"]["finding"]
    assert re.search(
        r"[\d.]+ million parameters, [\d.]+ GFLOP for an image of \d+×\d+ px", rows(result)["model"]["finding"]
    )
    assert contents(inside.folder) == before


@pytest.mark.ray
def test_a_detector_to_start_from_is_planned(
    plan: Plan, ray_here: None, inside: Workplace, make_model: Any, tmp_path: Path
) -> None:
    config = load_config(inside.config_file)
    assert config.data.classes is not None
    parent = config.with_classes(("bus", *config.data.classes[1:]))
    save_checkpoint(tmp_path / "parent", make_model(parent).state_dict(), {}, parent, {})
    row = rows(plan("--json", f"model.init={tmp_path}/parent", "model.num_queries=30"))["init"]
    assert row["status"] == "ok"
    new, count = config.data.classes[0], len(config.data.classes)
    assert row["finding"] == (
        f"{tmp_path}/parent: {count - 1} of {count} classes matched; new: {new}; dropped: bus; "
        "queries extended from 20 to 30"
    )
    row = rows(plan("--json", f"model.init={tmp_path}/parent", "model.hidden_dim=16"))["init"]
    assert row["status"] == "error"
    assert "another architecture: model.hidden_dim is 32 in the detector, 16 in" in row["finding"]


@pytest.mark.ray
def test_every_row_is_there_whatever_the_others_found(plan: Plan, ray_here: None, inside: Workplace) -> None:
    (inside.folder / "file").write_text("no folder")
    result = plan(
        "--json", "data.root=nowhere", "model.backbone.weights=absent.safetensors", "output_dir=file/runs",
        "tracking.uri=mysql://nobody@127.0.0.1:9/x", "scaling.num_workers=64", "train.batch_size=64",
    )  # fmt: skip
    assert result.exit_code == 1
    wrong = {name: row for name, row in rows(result).items() if row["status"] == "error"}
    assert wrong.keys() == {
        "backbone", "data train", "data val", "mlflow", "cluster", "output", "data on nodes",
    }  # fmt: skip
    assert {"resume", "run", "disk", "nodes", "versions", "memory"} <= rows(result).keys()
    assert all(row["remedy"] for name, row in wrong.items() if name not in ("backbone", "data train", "data val"))
    assert json.loads(result.stdout)["status"] == "error"


@pytest.mark.ray
def test_a_run_of_that_name_with_another_configuration_is_refused_as_training_refuses_it(
    plan: Plan, ray_here: None, inside: Workplace
) -> None:
    folder = inside.folder / "runs" / "taken"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(load_config(inside.config_file, ["name=taken", "optim.lr=0.5"]).to_yaml())
    found = rows(plan("--json", "name=taken"))["run"]
    assert found["status"] == "error"
    assert "optim.lr: was 0.5, is now 0.001" in found["finding"]
    assert found["remedy"].startswith("choose another name")


@pytest.mark.ray
def test_a_gpu_that_is_too_small_fails_the_plan(plan: Plan, ray_here: None) -> None:
    result = plan("--json", "--gpu-memory", "1GB")
    assert result.exit_code == 1
    assert rows(result)["memory"]["status"] == "error"
    assert "the GPU has 1.0 GB" in rows(result)["memory"]["finding"]


@pytest.mark.ray
def test_a_sweep_has_rows_of_its_own(plan: Plan, ray_here: None, inside: Workplace) -> None:
    space = inside.folder / "space.yaml"
    space.write_text("objective: coco/AP\nbudget: {trials: 3}\nparameters: {optim.lr: {loguniform: [0.1, 0.2]}}\n")
    found = rows(plan("--json", "--space", str(space), "scaling.num_workers=1"))
    assert found["trials"]["finding"].startswith("3 of 2 epochs")
    assert "checkpoints ×" in found["disk"]["finding"]


def test_a_configuration_that_is_none_is_the_only_row(plan: Plan) -> None:
    result = plan("--json", "optim.lr=-1")
    assert result.exit_code == 1
    assert "optim.lr" in rows(result)["configuration"]["finding"]
    assert len(rows(result)) == 1


def test_people_get_a_table_and_a_verdict() -> None:
    console = Console(record=True, width=100, file=io.StringIO())
    print_checks([Check("data [train]", "ok", "fine"), Check("disk", "error", "full", "make room")], console)
    text = console.export_text()
    assert "data [train]" in text
    assert "make room" in text
    assert "it would fail: 1 error, 0 warnings in 2 checks" in text


@pytest.mark.parametrize(("text", "size"), [("24GB", 24 * 10**9), ("24", 24 * 10**9), ("16GiB", 16 * 2**30)])
def test_memory_is_said_as_people_say_it(text: str, size: int) -> None:
    assert parse_bytes(text) == size


def test_memory_that_is_none_is_refused() -> None:
    with pytest.raises(PlanError, match="--gpu-memory many"):
        parse_bytes("many")


def test_a_narrow_terminal_shows_names_whole_and_each_remedy_under_its_finding() -> None:
    console = Console(record=True, width=80, file=io.StringIO())
    print_checks([Check("mlflow artifacts", "error", "a finding " * 9, "make room on the disk")], console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("mlflow artifacts" in line for line in lines)
    assert any(line.strip() == "→ make room on the disk" for line in lines)
