import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.console.format import command, duration, relative
from pipelines.console.links import ui_command
from pipelines.console.summary import print_summary
from pipelines.console.tables import metrics_tables
from pipelines.process.job_cwd import JOB
from pipelines.storage.run_summary import Summary

METRICS = {
    "coco/AP": 0.3, "coco/AP50": 0.51234, "coco/AR@1": float("nan"), "coco/AP/car": 0.4,
    "coco/AP/awning-tricycle": float("nan"), "visdrone/AP": 0.35,
}  # fmt: skip


def printed(thing: object) -> list[list[str]]:
    log = io.StringIO()
    Console(file=log, width=120).print(thing)
    return [line.split() for line in log.getvalue().splitlines()]


def test_each_protocol_has_a_table_with_its_classes_beside_it() -> None:
    coco, visdrone = metrics_tables(METRICS)
    assert printed(coco) == [
        ["coco", "class", "AP"],
        ["AP", "0.300", "car", "0.400"],
        ["AP50", "0.512", "awning-tricycle", "–"],
        ["AR@1", "–"],
    ]
    assert printed(visdrone) == [["visdrone"], ["AP", "0.350"]]


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
        "mlflow ui --backend-store-uri sqlite:////data/mlflow.db\n",
        "and open         http://127.0.0.1:5000/#/runs/1\n",
        "mrqm evaluate runs/demo/epoch_0007",
    ):
        assert words in log.getvalue()


def test_a_server_is_opened_by_its_address() -> None:
    assert ui_command("http://mlflow:5000/", "4f2") == "http://mlflow:5000/#/runs/4f2"


def test_commands_are_named_so_that_they_can_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(sys.executable).parent
    monkeypatch.setenv("PATH", str(folder))
    assert command("mlflow") == "mlflow"
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir("/")
    assert Path(command("mlflow")) in (folder / "mlflow", (folder / "mlflow").relative_to("/"))


def test_a_job_names_commands_for_who_submitted_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB, "{}")
    assert command("mrqm") == "mrqm submit --"


def test_paths_are_relative_only_inside_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative(tmp_path / "a" / "b") == "a/b"
    assert relative(tmp_path.parent / "c") == str(tmp_path.parent / "c")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "00:00"), (250, "04:10"), (7450, "2:04:10"), (59.7, "01:00"), (float("inf"), "?")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_names_of_classes_are_no_markup() -> None:
    (table,) = metrics_tables({"coco/AP": 0.5, "coco/AP/[bold]": 0.1, "coco/AP/[/x]": 0.2})
    assert [row[-2] for row in printed(table)[1:]] == ["[bold]", "[/x]"]
