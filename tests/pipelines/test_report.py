import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.report import command, metrics_table, print_summary, relative, ui_command
from pipelines.runs import Summary

METRICS = {"AP": 0.3, "AP50": 0.51234, "AR": float("nan"), "AP/car": 0.4, "AP/awning-tricycle": float("nan")}


def printed(thing: object) -> list[list[str]]:
    log = io.StringIO()
    Console(file=log, width=120).print(thing)
    return [line.split() for line in log.getvalue().splitlines()]


def test_the_table_has_all_metrics_and_a_row_for_each_class() -> None:
    assert printed(metrics_table(METRICS)) == [
        ["AP", "AP50", "AR"],
        ["all", "classes", "0.300", "0.512", "–"],
        ["car", "0.400"],
        ["awning-tricycle", "–"],
    ]


def test_the_summary_says_where_everything_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    summary = Summary(
        name="demo",
        folder=str(tmp_path / "runs/demo"),
        checkpoint=str(tmp_path / "runs/demo/epoch_0007"),
        epoch=7,
        metrics=METRICS,
        picture=str(tmp_path / "runs/demo/pictures/epoch_0007.png"),
        tracking_uri="sqlite:////data/mlflow.db",
        run_id="1",
        model_uri="models:/mrqm/3",
        registered_as="mrqm version 3",
    )
    log = io.StringIO()
    print_summary(summary, Console(file=log, width=80))
    for words in (
        "runs/demo/epoch_0007 (epoch 7)",
        "runs/demo/pictures/epoch_0007.png",
        "mrqm version 3",
        "mlflow ui --backend-store-uri sqlite:////data/mlflow.db",
        "mrqm evaluate runs/demo/epoch_0007",
    ):
        assert words in log.getvalue()


def test_a_server_is_looked_at_by_its_address() -> None:
    assert ui_command("http://mlflow:5000") == "http://mlflow:5000"


def test_commands_are_named_so_that_they_can_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(sys.executable).parent
    monkeypatch.setenv("PATH", str(folder))
    assert command("mlflow") == "mlflow"
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir("/")
    assert Path(command("mlflow")) in (folder / "mlflow", (folder / "mlflow").relative_to("/"))


def test_paths_are_relative_only_inside_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative(tmp_path / "a" / "b") == "a/b"
    assert relative(tmp_path.parent / "c") == str(tmp_path.parent / "c")
