"""`mrqm predict` as users run it, on images that are in order and on others."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from mrqm.__main__ import app
from mrqm.checkpoint.folder import save_checkpoint
from mrqm.config import Config
from mrqm.data.results.coco import read_coco_results
from mrqm.data.results.text import read_visdrone_results
from mrqm.inference.detector import load
from mrqm.structures.annotations import ImageRecord, xywh_to_xyxy
from mrqm.structures.ground_truth import make_ground_truth
from pipelines.console.progress import ImageProgress
from pipelines.inference.inputs import ImageListError, find_images, name_results
from pipelines.inference.predict import Options, Summary, predict
from pipelines.inference.results_dir import PredictionFolder, PredictionFolderError, Result
from pipelines.registry.model_uri import ModelSourceError, checkpoint_folder
from pipelines.registry.register import register
from pipelines.storage.run_dir import RunFolder
from pipelines.tracking.tracker import Tracker

CLASSES = ("a", "b", "c")
Predict = Callable[..., Summary]


@pytest.fixture(scope="module")
def checkpoint(tiny_config: Callable[..., Config], make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config("data.classes=[a, b, c]", "data.tile={size: 64, overlap: 16}")
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    save_checkpoint(folder, make_model(config).state_dict(), {}, config, {})
    return folder


@pytest.fixture
def flight(tmp_path: Path) -> Path:
    """Five images in two folders; two have the same name."""
    rng = np.random.default_rng(0)
    places = ["one/0001.png", "one/0002.png", "two/0001.png", "two/deeper/wide.jpg", "two/small.jpg"]
    for place, size in zip(places, [(64, 64), (60, 80), (64, 64), (90, 150), (20, 20)], strict=True):
        path = tmp_path / "flight" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return tmp_path / "flight"


@pytest.fixture
def run(checkpoint: Path, flight: Path, tmp_path: Path) -> Predict:
    def call(*overrides: str, images: Sequence[str] = (str(flight),), log: Any = None, **options: Any) -> Summary:
        progress = ImageProgress(Console(file=log or io.StringIO()))
        return predict(str(checkpoint), images, tmp_path / "out", Options(overrides, "cpu", **options), progress)

    return call


def records(out: Path) -> list[ImageRecord]:
    """Read the listed images as records for the readers of result files."""
    nothing = make_ground_truth(np.zeros((0, 4)), np.zeros(0, np.int64))
    return [
        ImageRecord(Path(f"{image['name']}.x"), image["id"], (image["height"], image["width"]), nothing)
        for image in json.loads((out / "images.json").read_text())["images"]
    ]


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------------- results


def test_the_files_hold_what_the_detector_finds(run: Predict, checkpoint: Path, flight: Path, tmp_path: Path) -> None:
    summary, out = run(), tmp_path / "out"
    assert (summary.images, summary.done_before, summary.faults) == (5, 0, [])
    listing = json.loads((out / "images.json").read_text())
    assert [category["name"] for category in listing["categories"]] == list(CLASSES)
    from_json = read_coco_results(out / "detections.json", records(out), {1: 0, 2: 1, 3: 2}).detections
    from_texts = read_visdrone_results(out / "visdrone", records(out), CLASSES).detections
    detector = load(checkpoint)
    for image, first, second in zip(listing["images"], from_json, from_texts, strict=True):
        expected = detector(image["file_name"])
        with Image.open(image["file_name"]) as file:
            assert file.size == (image["width"], image["height"])
        for found in (first, second):
            np.testing.assert_allclose(xywh_to_xyxy(found.boxes_xywh), expected["boxes"], atol=1e-2)
            np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-4)
            np.testing.assert_array_equal(found.labels, expected["labels"])
    assert summary.detections == sum(len(found.scores) for found in from_json) > 0


def test_pictures_are_drawn_unless_not_wanted(run: Predict, tmp_path: Path) -> None:
    run(draw_from=0.2)
    pictures = sorted((tmp_path / "out" / "pictures").iterdir())
    assert [path.stem for path in pictures] == ["0002", "one__0001", "small", "two__0001", "wide"]
    with Image.open(pictures[0]) as picture:
        assert max(picture.size) >= 640


def test_no_pictures_without_drawing(run: Predict, tmp_path: Path) -> None:
    run(draw_from=None)
    assert not list((tmp_path / "out" / "pictures").iterdir())


def test_large_images_are_drawn_small_with_boxes_in_place(
    run: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.inference.predictor.LARGEST_PICTURE", 700)
    Image.new("RGB", (1400, 60)).save(tmp_path / "long.png")
    run(images=[str(tmp_path / "long.png")])
    with Image.open(tmp_path / "out/pictures/long.jpg") as picture:
        assert 700 <= picture.width < 760


def test_pictures_have_the_image_s_own_size_at_whatever_scale_the_model_looks(run: Predict, tmp_path: Path) -> None:
    Image.new("RGB", (900, 60)).save(tmp_path / "long.png")
    run("data.scale=0.1", images=[str(tmp_path / "long.png")])
    with Image.open(tmp_path / "out/pictures/long.jpg") as picture:
        assert 900 <= picture.width < 960


def test_images_of_which_detections_are_left_out_are_named(run: Predict, tmp_path: Path) -> None:
    log = io.StringIO()
    every = run(log=log)
    assert "left out" not in log.getvalue()
    (tmp_path / "out").rename(tmp_path / "every")
    few = run("evaluation.max_detections_per_image=7", log=log)
    assert (every.detections > few.detections, few.detections) == (True, 5 * 7)
    words = " ".join(log.getvalue().split())
    assert re.search(r"wide\.jpg: [\d,]+ detections left out beyond the best 7 \(evaluation\.max_detections_per", words)


# ------------------------------------------------------------------------------------------------- resuming


def test_an_interrupted_prediction_continues_where_it_was(
    run: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = PredictionFolder.write, []

    def interrupted(self: PredictionFolder, result: Result) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(result.index)
        write(self, result)

    monkeypatch.setattr(PredictionFolder, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("evaluation.batch_size=1")
    monkeypatch.undo()
    assert not (tmp_path / "out" / "detections.json").exists()
    before = contents(tmp_path / "out")
    summary = run("evaluation.batch_size=2")  # another batch size finds the same
    assert (summary.images, summary.done_before) == (5, 2)
    after = contents(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert len(records(tmp_path / "out")) == 5


def test_a_finished_prediction_looks_at_nothing_again(
    run: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run()
    before = contents(tmp_path / "out")
    monkeypatch.setattr("mrqm.inference.detector.Detector.open", lambda *_: pytest.fail("opened an image"))
    second = run()
    assert (second.done_before, second.detections) == (5, first.detections)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("overrides", "options", "named"),
    [
        (["evaluation.merge=wbf"], {}, "evaluation.merge: was window_nms, is now wbf"),
        ([], {"draw_from": 0.5}, "draw_from: was 0.3, is now 0.5"),
        ([], {"images": ["one"]}, "images: was 5 images"),
    ],
)
def test_results_of_other_settings_are_not_mixed(
    overrides: list[str], options: Any, named: str, run: Predict, flight: Path
) -> None:
    run()
    if "images" in options:
        options = {"images": [str(flight / "one")]}
    with pytest.raises(PredictionFolderError, match=named):
        run(*overrides, **options)


def test_half_written_files_are_never_taken_for_whole(run: Predict, tmp_path: Path) -> None:
    run()
    out = tmp_path / "out"
    (out / ".parts" / "small.npz").rename(out / ".parts" / "small.npz.unfinished")
    assert run().done_before == 4


# ------------------------------------------------------------------------------------------------ bad input


def test_unreadable_images_are_named_and_skipped_and_tried_again(run: Predict, flight: Path, tmp_path: Path) -> None:
    (flight / "text.png").write_text("no pixels")
    whole = (flight / "two/deeper/wide.jpg").read_bytes()
    (flight / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    log = io.StringIO()
    summary = run(log=log)
    assert summary.images == 7
    assert sorted(Path(fault.partition(":")[0]).name for fault in summary.faults) == ["cut.jpg", "text.png"]
    assert f"skipped: {flight / 'text.png'}" in log.getvalue()
    assert len(records(tmp_path / "out")) == 5
    (flight / "cut.jpg").write_bytes(whole)
    assert len(run().faults) == 1


def test_the_command_tells_of_skipped_images_by_its_exit_code(checkpoint: Path, flight: Path, tmp_path: Path) -> None:
    words = [
        "predict",
        str(checkpoint),
        str(flight / "one"),
        "--device",
        "cpu",
        "--no-draw",
        "evaluation.merge_iou=0.6",
    ]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "detections in 2 images" in result.output
    (flight / "one/0001.png").write_text("no pixels")
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "again")])
    assert result.exit_code == 1
    assert "detections in 1 images, 1 unreadable images skipped" in result.output


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["{flight}/nothing"], "nothing: no such file or folder"),
        (["{flight}/*.bmp"], r"\*.bmp: no images there"),
        (["{empty}"], "empty: no images there"),
        (["evaluation.merge=best", "{flight}"], "evaluation.merge"),
        (["evaluation.merge=wbf"], "no images named"),
    ],
)
def test_what_cannot_be_predicted_is_said_in_one_message(
    words: list[str], named: str, checkpoint: Path, flight: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    words = [word.format(flight=flight, empty=tmp_path / "empty") for word in words]
    result = CliRunner().invoke(app, ["predict", str(checkpoint), *words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2, result.output
    assert re.search(named, result.output)
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------- image lists


def test_folders_files_and_patterns_stand_for_images(flight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (flight / "notes.txt").write_text("not an image")
    assert len(find_images([str(flight)])) == 5
    assert len(find_images([str(flight / "two/*.png"), str(flight / "two"), str(flight / "one/0002.png")])) == 4
    monkeypatch.chdir(flight)
    assert find_images(["**/*.jpg"]) == sorted(flight.rglob("*.jpg"))
    with pytest.raises(ImageListError, match="no images there"):
        find_images(["*.txt"])


def test_names_differ_by_as_many_folders_as_it_takes() -> None:
    paths = ["/x/a/1.jpg", "/x/b/1.jpg", "/y/b/1.jpg", "/x/2.jpg", "/x/3.jpg", "/x/3.png", "/x/C.jpg", "/y/c.jpg"]
    names = name_results([Path(path) for path in paths])
    assert names == ["a__1", "x__b__1", "y__b__1", "2", "3.jpg", "3.png", "x__C", "y__c"]


# ------------------------------------------------------------------------------------------- ray and mlflow


@pytest.mark.ray
def test_ray_finds_what_one_process_finds(ray_here: None, run: Predict, flight: Path, tmp_path: Path) -> None:
    (flight / "text.png").write_text("no pixels")
    alone = run(draw_from=None)
    before = contents(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "alone")
    on_ray = run(draw_from=None, workers=1)
    assert (on_ray.images, on_ray.detections, on_ray.faults) == (alone.images, alone.detections, alone.faults)
    after = contents(tmp_path / "out")
    assert after.keys() == before.keys()
    from_ray = read_visdrone_results(tmp_path / "out/visdrone", records(tmp_path / "out"), CLASSES).detections
    from_here = read_visdrone_results(tmp_path / "alone/visdrone", records(tmp_path / "out"), CLASSES).detections
    for found, expected in zip(from_ray, from_here, strict=True):
        np.testing.assert_allclose(np.sort(found.scores), np.sort(expected.scores), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("word", ["models:/spotter/1", "models:/spotter@best", "runs:/{run}/model"])
def test_a_registered_model_predicts_like_its_checkpoint(
    word: str, checkpoint: Path, tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    config = tiny_config(f"output_dir={tmp_path}/runs")
    folder = RunFolder(config)
    folder.path.mkdir(parents=True)
    with Tracker(config, folder) as tracker:
        register(tracker, checkpoint, {}, "spotter", {})
        tracker.client.set_registered_model_alias("spotter", "best", "1")
    with checkpoint_folder(word.format(run=tracker.run_id)) as found:
        assert (found / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()
        assert load(found).classes == CLASSES
    with pytest.raises(ModelSourceError, match="models:/spotter/2"), checkpoint_folder("models:/spotter/2"):
        pass
