"""Preparation: its output, and its resumption after a kill. Jobs run in this process except in one test."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mrqm.data.analysis.statistics import SplitReport
from mrqm.data.formats.coco import read_coco
from mrqm.data.formats.visdrone import read_visdrone
from mrqm.data.formats.writer import ANNOTATIONS, ImageJob, ImageOutcome, run_job
from mrqm.structures.annotations import DataError
from pipelines.preparation import prepare as module
from pipelines.preparation.output_dir import PROGRESS, REPORT, PreparationError, make_settings
from pipelines.preparation.prepare import prepare
from pipelines.preparation.report import print_report

from ...commands import CUT_SHORT, SIGNALS, Command
from ...forked_workers import forked_workers
from ...waiting import wait_until


class Stopped(Exception):
    """Stand-in for a killed process."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three training images, one of them cut off, and one of validation, in VisDrone's layout."""
    rng = np.random.default_rng(0)
    for split, names in (("train", "abc"), ("val", "d")):
        for part in ("images", "annotations"):
            (tmp_path / "source" / split / part).mkdir(parents=True)
        for name in names:
            folder = tmp_path / "source" / split
            Image.fromarray(rng.integers(0, 255, (60, 90, 3), dtype=np.uint8)).save(folder / "images" / f"{name}.jpg")
            (folder / "annotations" / f"{name}.txt").write_text(
                "5,5,10,10,1,4,0,0,\n80,50,30,5,1,4,0,0\n40,5,9,9,0,0,0,0"
            )
    broken = tmp_path / "source" / "train" / "images" / "b.jpg"
    broken.write_bytes(broken.read_bytes()[:1500])
    return tmp_path / "source"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Run jobs in this process; return the processed images."""
    worked: list[Path] = []

    def run(jobs: Sequence[ImageJob], uris: tuple[str, ...], console: Console) -> Iterator[tuple[int, ImageOutcome]]:
        for position, job in enumerate(jobs):
            worked.append(job.path)
            yield position, run_job(job)

    monkeypatch.setattr(module, "_run_jobs", run)
    return worked


def run(source: Path, destination: Path | None, **settings: Any) -> dict[str, SplitReport]:
    settings = {"dataset": "visdrone", "source": source} | settings
    return prepare(make_settings(**settings), destination, Console(file=io.StringIO()))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_written_form_reads_as_the_source_does(source: Path, here: list[Path], tmp_path: Path) -> None:
    reports = run(source, tmp_path / "new")
    again, before = read_coco(tmp_path / "new" / "val"), read_visdrone(source / "val")
    np.testing.assert_array_equal(again.records[0].boxes, before.records[0].boxes)
    np.testing.assert_array_equal(again.records[0].ignore_boxes, before.records[0].ignore_boxes)
    assert (again.classes, again.records[0].labels.tolist()) == (before.classes, before.records[0].labels.tolist())
    rerun = run(tmp_path / "new", None, dataset="coco")
    assert {name: report.digest for name, report in rerun.items()} == {n: r.digest for n, r in reports.items()}


def test_the_report_names_what_was_repaired_and_left_out(source: Path, here: list[Path], tmp_path: Path) -> None:
    report = run(source, tmp_path / "new")["train"]
    assert (report.images, report.written, report.objects["car"]) == (2, 2, 4)
    assert "b.jpg: the image does not decode" in report.unreadable[0]
    text = source / "train" / "annotations" / "a.txt"
    assert report.repairs[0] == (f"{text}:1", "trailing comma left out")
    assert (f"{text}:2", "box [80, 50, 110, 55] clipped to the image") in report.repairs
    assert not (tmp_path / "new" / "train" / "images" / "b.jpg").exists()
    assert json.loads((tmp_path / "new" / REPORT).read_text())["train"]["objects"]["car"] == 4
    assert "b.jpg: the image does not decode" in (tmp_path / "new" / "report.md").read_text()


def test_the_printed_report_has_every_split_and_fault(source: Path, here: list[Path]) -> None:
    printed = io.StringIO()
    print_report(run(source, None), Console(file=printed, width=100))
    for words in ("train", "val", "awning-tricycle", "under 12 px", "99th percentile", "b.jpg: the image", "a.txt:1"):
        assert words in printed.getvalue()


def test_a_check_writes_nothing(source: Path, here: list[Path], tmp_path: Path) -> None:
    before = files_of(tmp_path)
    assert run(source, None)["val"].images == 1
    assert files_of(tmp_path) == before


def test_training_tiles_show_objects_and_validation_has_all(source: Path, here: list[Path], tmp_path: Path) -> None:
    run(source, tmp_path / "new", tiles=40, overlap=10)
    train, val = (read_coco(tmp_path / "new" / split).records for split in ("train", "val"))
    assert sorted(record.path.name for record in val) == [
        f"d__{left}_{top}.png" for left in (0, 30, 50) for top in (0, 20)
    ]
    assert [record.path.name for record in train if record.path.name.startswith("a")] == ["a__0_0.png", "a__50_20.png"]
    assert {record.size for record in val} == {(40, 40)}
    assert len({record.image_id for record in train}) == len(train) == 4


def test_scaled_images_are_written_in_their_new_size(source: Path, here: list[Path], tmp_path: Path) -> None:
    run(source, tmp_path / "new", scale=0.5, splits=("val",))
    (record,) = read_coco(tmp_path / "new" / "val").records
    assert record.size == (30, 45)
    np.testing.assert_array_equal(record.boxes[0], [2.5, 2.5, 7.5, 7.5])


def test_a_stopped_preparation_goes_on(
    source: Path, here: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(source, tmp_path / "whole")
    here.clear()
    in_process = module._run_jobs

    def stop_after_one(
        jobs: Sequence[ImageJob], uris: tuple[str, ...], console: Console
    ) -> Iterator[tuple[int, ImageOutcome]]:
        yield next(iter(in_process(jobs, uris, console)))
        raise Stopped

    monkeypatch.setattr(module, "_run_jobs", stop_after_one)
    for _ in range(2):
        with pytest.raises(Stopped):
            run(source, tmp_path / "new")
        with (tmp_path / "new" / PROGRESS).open("a") as file:
            file.write('{"image": "half a li')
    assert not list((tmp_path / "new").rglob(ANNOTATIONS))
    monkeypatch.setattr(module, "_run_jobs", in_process)
    here.clear()
    run(source, tmp_path / "new")
    assert [path.name for path in here] == ["c.jpg", "d.jpg"]
    assert files_of(tmp_path / "new") == files_of(tmp_path / "whole")


def test_an_image_that_changed_meanwhile_is_done_again(
    source: Path, here: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module.Split, "finish", lambda *_: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            run(source, tmp_path / "new")
    here.clear()
    os.utime(source / "train" / "images" / "a.jpg", (1, 1))
    (tmp_path / "new" / "val" / "images" / "d.jpg").unlink()
    run(source, tmp_path / "new")
    assert [path.name for path in here] == ["a.jpg", "d.jpg"]


def test_a_finished_preparation_is_only_reported(source: Path, here: list[Path], tmp_path: Path) -> None:
    reports = run(source, tmp_path / "new")
    here.clear()
    assert run(source, tmp_path / "new") == reports
    assert here == []


def test_other_settings_are_refused_with_what_differs(source: Path, here: list[Path], tmp_path: Path) -> None:
    run(source, tmp_path / "new")
    with pytest.raises(PreparationError, match=r"new: prepared with other settings: tiles was None and is 40;"):
        run(source, tmp_path / "new", tiles=40)


def test_a_folder_with_something_else_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(PreparationError, match="has other content"):
        run(source, source)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dataset": "voc"}, "dataset: .*'visdrone', 'coco', 'soda-d' or 'yolo'; got 'voc'"),
        ({"tiles": 40, "overlap": 40}, "overlap=40 must be below tiles=40"),
        ({"overlap": 4}, "overlap=4 must be below tiles=None"),
    ],
)
def test_settings_that_are_not_allowed_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(PreparationError, match=said):
        make_settings(**{"dataset": "visdrone", "source": Path("x")} | settings)


def test_an_unknown_split_is_named_with_those_that_are_there(source: Path) -> None:
    with pytest.raises(DataError, match=r"no split named test; found train, val"):
        run(source, None, splits=("test",))


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty images that take seconds to convert."""
    source = tmp_path_factory.mktemp("noise")
    for part in ("images", "annotations"):
        (source / "train" / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(20):
        pixels = rng.integers(0, 255, (500, 500, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(source / "train" / "images" / f"{number}.png")
        rows = [f"{x},{y},9,9,1,4,0,0" for x in range(5, 490, 50) for y in range(5, 490, 50)]
        (source / "train" / "annotations" / f"{number}.txt").write_text("\n".join(rows))
    return source


@pytest.mark.ray
@SIGNALS
def test_a_signal_ends_a_preparation_with_its_ray(
    number: signal.Signals, send: Callable[[Command, signal.Signals], None], noise: Path, tmp_path: Path
) -> None:
    progress = tmp_path / "new" / PROGRESS
    with forked_workers():
        command = Command(tmp_path, ["prepare", "visdrone", str(noise), str(progress.parent), "--tiles", "100"])
        command.wait_until(lambda: progress.is_file() and progress.read_text().count("\n") >= 1, "one is done")
        started = command.children()
        send(command, number)
        assert command.end() == 130, command.said
        assert command.output.endswith("stopped; the same command continues\n")
        assert not any(word in command.said for word in (CUT_SHORT, "SIGTERM", "Traceback"))
        wait_until(lambda: not any(process.is_running() for process in started), "Ray ends")
    assert not list(progress.parent.rglob(ANNOTATIONS))


@pytest.mark.ray
def test_a_killed_command_goes_on_and_ends_as_if_it_had_not_been(here: list[Path], noise: Path, tmp_path: Path) -> None:
    run(noise, tmp_path / "whole", tiles=100, overlap=0)

    arguments = ["prepare", "visdrone", str(noise), str(tmp_path / "new"), "--tiles", "100"]
    progress = tmp_path / "new" / PROGRESS
    with forked_workers():
        killed = Command(tmp_path, arguments)
        killed.wait_until(lambda: progress.is_file() and progress.read_text().count("\n") >= 3, "three are done")
        killed.kill()
        assert killed.end() == -signal.SIGKILL
        assert not list((tmp_path / "new").rglob(ANNOTATIONS))
        done = progress.read_text().count("\n")
        assert 3 <= done < 20

        again = Command(tmp_path, arguments)
        assert again.end() == 0, again.said
    assert f"continuing: {done} of 20 images are done" in again.output
    assert files_of(tmp_path / "new") == files_of(tmp_path / "whole")
