"""The evaluate command's parts: models and result files of every form against annotations, reports and MLflow."""

from __future__ import annotations

import getpass
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image
from rich.console import Console

from mrqm.checkpoint.folder import save_checkpoint
from mrqm.checkpoint.lookup import CheckpointError
from mrqm.config import ConfigError
from mrqm.data.formats.visdrone import read_visdrone
from mrqm.data.results.writer import write_coco_results, write_visdrone_results
from mrqm.structures.annotations import DataError, ImageRecord
from mrqm.structures.detections import Detections
from pipelines.console.progress import ImageProgress
from pipelines.evaluation.evaluate import EvaluationResult, evaluate
from pipelines.evaluation.report import analyse, print_evaluation, write_report
from pipelines.evaluation.request import EvaluationError, Request
from pipelines.tracking.errors import UnreachableError

from ..registered import free_port

CLASSES = ("blue", "yellow")


@pytest.fixture
def progress() -> ImageProgress:
    return ImageProgress(Console(file=io.StringIO()))


@pytest.fixture
def root(squares: Any) -> Path:
    """Four images of squares in VisDrone's layout."""
    path: Path = squares(images=4, side=96, objects=5)
    return path


@pytest.fixture
def config_file(root: Path) -> Path:
    path = root / "config.yaml"
    path.write_text(
        f"data: {{root: {root}, train: train, val: val, classes: [blue, yellow], tile: {{size: 64, overlap: 32}}}}\n"
    )
    return path


@pytest.fixture
def checkpoint(tiny_config: Any, make_model: Any, root: Path, tmp_path: Path) -> Path:
    config = tiny_config(f"data.root={root}", "data.classes=[blue, yellow, red]", "data.tile={size: 64, overlap: 32}")
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, make_model(config).state_dict(), {}, config, {})
    return folder


def perfect(record: ImageRecord) -> Detections:
    truth = record.truth.take(record.truth.is_object)
    return Detections(truth.boxes_xywh, np.linspace(0.9, 0.5, len(truth)), truth.labels)


def write_results(kind: str, root: Path) -> Path:
    """Write perfect predictions in one of the three formats."""
    records = read_visdrone(root / "val", CLASSES).records
    path = root / "found"
    if kind == "coco":
        write_coco_results(path, {record.image_id: perfect(record) for record in records}, (1, 2))
    elif kind == "visdrone":
        write_visdrone_results(path, {record.path.stem: perfect(record) for record in records}, CLASSES)
    else:
        path.mkdir()
        numbered = list(enumerate(reversed(records)))  # predict's own numbers
        write_coco_results(path / "detections.json", {index: perfect(record) for index, record in numbered}, (1, 2))
        images = [{"id": index, "file_name": f"/elsewhere/{record.path.name}"} for index, record in numbered]
        categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
        (path / "images.json").write_text(json.dumps({"images": images, "categories": categories}))
    return path


@pytest.mark.parametrize("kind", ["coco", "visdrone", "predict"])
def test_anybodys_results_are_scored_under_every_protocol(
    root: Path, config_file: Path, progress: ImageProgress, kind: str
) -> None:
    path = write_results(kind, root)
    protocols = ("coco", "visdrone", "soda-d")
    scored = evaluate(Request(predictions=path, config=config_file, protocols=protocols), progress)
    assert {f"{name}/AP": scored.metrics[f"{name}/AP"] for name in protocols} == {
        f"{name}/AP": pytest.approx(1) for name in protocols
    }
    assert scored.versions.keys() == set(protocols)
    assert len(scored.data_digest) == 64


def test_results_for_coco_data_go_by_its_own_category_numbers(root: Path, progress: ImageProgress) -> None:
    records = read_visdrone(root / "val", CLASSES).records
    folder = root / "coco"
    folder.mkdir()
    images, annotations = [], []
    for record in records:
        Image.open(record.path).save(folder / record.path.name)
        images.append({"id": record.image_id + 50, "file_name": record.path.name, "height": 96, "width": 96})
        for (left, top, right, bottom), label in zip(record.boxes.tolist(), record.labels.tolist(), strict=True):
            box = [left, top, right - left, bottom - top]
            annotations.append({"id": len(annotations) + 1, "image_id": record.image_id + 50, "bbox": box,
                                "category_id": (7, 3)[label], "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
    categories = [{"id": 7, "name": "blue"}, {"id": 3, "name": "yellow"}]
    (folder / "annotations.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    config = root / "coco.yaml"
    config.write_text(f"data: {{format: coco, root: {root}, train: coco, val: coco, classes: [blue, yellow]}}\n")
    results = root / "results.json"
    write_coco_results(results, {record.image_id + 50: perfect(record) for record in records}, (7, 3))
    assert evaluate(Request(predictions=results, config=config), progress).metrics["coco/AP"] == pytest.approx(1)


def test_predictions_of_fewer_images_are_refused(root: Path, config_file: Path, progress: ImageProgress) -> None:
    path = write_results("predict", root)
    listing = json.loads((path / "images.json").read_text())
    (path / "images.json").write_text(json.dumps({**listing, "images": listing["images"][1:]}))
    with pytest.raises(DataError, match="1 annotated images were not predicted"):
        evaluate(Request(predictions=path, config=config_file), progress)


def test_predictions_of_other_classes_are_refused(root: Path, config_file: Path, progress: ImageProgress) -> None:
    path = write_results("predict", root)
    with pytest.raises(DataError, match=r"classes are \['blue', 'yellow'\], those of the annotations \['red', 'green'"):
        request = Request(predictions=path, config=config_file, overrides=["data.classes=[red, green]"])
        evaluate(request, progress)


def test_predictions_with_the_categories_in_another_order_keep_their_names(
    root: Path, config_file: Path, progress: ImageProgress
) -> None:
    path = write_results("predict", root)
    listing = json.loads((path / "images.json").read_text())
    (path / "images.json").write_text(json.dumps({**listing, "categories": listing["categories"][::-1]}))
    assert evaluate(Request(predictions=path, config=config_file), progress).metrics["coco/AP"] == pytest.approx(1)


def test_predicted_images_without_annotations_are_passed_over_aloud(
    root: Path, config_file: Path, progress: ImageProgress
) -> None:
    path = write_results("predict", root)
    for part in ("images", "annotations"):
        for file in (root / "val" / part).glob("3.*"):
            file.unlink()
    scored = evaluate(Request(predictions=path, config=config_file), progress)
    assert (len(scored.found.records), scored.metrics["coco/AP"]) == (3, pytest.approx(1))
    assert "1 predicted images have no annotations and are skipped" in scored.notes[0]


def test_classes_of_predictions_go_by_their_names(root: Path, config_file: Path, progress: ImageProgress) -> None:
    path = write_results("predict", root)
    listing = json.loads((path / "images.json").read_text())
    listing["categories"] = [{"id": 1, "name": "red"}, {"id": 2, "name": "yellow"}]
    (path / "images.json").write_text(json.dumps(listing))
    scored = evaluate(Request(predictions=path, config=config_file), progress)
    assert (scored.metrics["coco/AP/blue"], scored.metrics["coco/AP/yellow"]) == (0, pytest.approx(1))
    assert "the model's classes are ['red', 'yellow']" in scored.notes[0]
    assert "of category 1, which is not among data.classes, are ignored" in scored.notes[1]


@pytest.mark.parametrize(("view", "images"), [(None, 16), ("tiles", 16), ("sliced", 4), ("full", 4)])
def test_a_model_is_scored_as_it_looks(
    checkpoint: Path, progress: ImageProgress, view: str | None, images: int
) -> None:
    scored = evaluate(Request(model=str(checkpoint), view=view, device="cpu"), progress)
    assert len(scored.found.records) == len(scored.found.detections) == images
    assert 0 <= scored.metrics["coco/AP"] <= 1


def test_the_data_of_a_file_replace_the_models(
    checkpoint: Path, config_file: Path, progress: ImageProgress, root: Path
) -> None:
    config_file.write_text(
        config_file.read_text().replace("size: 64", "size: 96").replace(", classes: [blue, yellow]", "")
    )
    text = config_file.read_text().replace("val: val", "val: val, classes: [blue, yellow, red]")
    config_file.write_text(text)
    scored = evaluate(Request(model=str(checkpoint), config=config_file, device="cpu"), progress)
    assert len(scored.found.records) == 4  # one tile each


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (Request(), EvaluationError, "give either a model or --predictions"),
        (Request(model="a", predictions=Path("b")), EvaluationError, "give either a model or --predictions"),
        (Request(predictions=Path("b")), EvaluationError, "give -c FILE"),
        (
            Request(model="CHECKPOINT", protocols=("voc",)),
            EvaluationError,
            "--protocol voc: choose one of coco, coco-drop-ignored",
        ),
        (Request(model="CHECKPOINT", view="half"), EvaluationError, "--view half: choose one of tiles, sliced, full"),
        (Request(model="CHECKPOINT", view="sliced", overrides=["data.tile=null"]), EvaluationError, "data.tile.size"),
        (Request(model="CHECKPOINT", overrides=["data.root=/nowhere"]), DataError, "/nowhere"),
        (Request(model="CHECKPOINT", overrides=["optim.lr=high"]), ConfigError, "optim.lr"),
    ],
)
def test_what_makes_no_sense_is_said(
    checkpoint: Path, progress: ImageProgress, request_: Request, error: type[Exception], words: str
) -> None:
    model = str(checkpoint) if request_.model == "CHECKPOINT" else request_.model
    with pytest.raises(error, match=words):
        evaluate(Request(**{**vars(request_), "model": model}), progress)


def test_classes_that_do_not_match_the_checkpoint_are_refused(
    checkpoint: Path, config_file: Path, progress: ImageProgress
) -> None:
    with pytest.raises(EvaluationError, match=r"data\.classes .*\['blue', 'yellow'\].* trained on .*'red'"):
        evaluate(Request(model=str(checkpoint), config=config_file), progress)


def test_a_model_is_scored_by_the_names_of_classes_that_the_data_number_otherwise(
    checkpoint: Path, root: Path, config_file: Path, progress: ImageProgress
) -> None:
    text = config_file.read_text().replace("[blue, yellow]", "[blue, yellow, red]")
    config_file.write_text(text)
    expected = evaluate(Request(model=str(checkpoint), config=config_file), progress).metrics
    for path in (root / "val" / "annotations").iterdir():
        rows = [line.split(",") for line in path.read_text().splitlines()]
        path.write_text("\n".join(",".join([*row[:5], str(int(row[5]) + 1), *row[6:]]) for row in rows))
    config_file.write_text(text.replace("[blue, yellow, red]", "[red, blue, yellow]"))
    metrics = evaluate(Request(model=str(checkpoint), config=config_file), progress).metrics
    assert metrics == pytest.approx(expected, nan_ok=True)
    overrides = ("data.classes=[red, blue, yellow]",)
    metrics = evaluate(Request(model=str(checkpoint), overrides=overrides), progress).metrics
    assert metrics == pytest.approx(expected, nan_ok=True)


def test_a_runs_folder_is_evaluated_by_its_best_checkpoint(
    checkpoint: Path, config_file: Path, progress: ImageProgress, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for name, ap in (("epoch_0001", 0.3), ("epoch_0002", 0.2)):
        shutil.copytree(checkpoint, run / name)
        (run / name / "metrics.json").write_text(json.dumps({"coco/AP": ap}))
    overrides = ("evaluation.max_detections=1",)
    assert evaluate(Request(model=str(run), overrides=overrides), progress).subject == str(run / "epoch_0001")
    assert evaluate(Request(model=f"{run}/last", overrides=overrides), progress).subject == str(run / "epoch_0002")
    with pytest.raises(CheckpointError, match=r"epoch_0003: no such checkpoint; .* has epoch_0002, epoch_0001"):
        evaluate(Request(model=f"{run}/epoch_0003"), progress)


@pytest.fixture
def assessment(root: Path, config_file: Path, progress: ImageProgress) -> EvaluationResult:
    path = write_results("coco", root)
    return evaluate(Request(predictions=path, config=config_file, protocols=("coco", "visdrone")), progress)


def test_the_console_shows_every_protocol_and_the_errors(assessment: EvaluationResult) -> None:
    log = io.StringIO()
    print_evaluation(assessment, analyse(assessment), Console(file=log, width=120))
    text = log.getvalue()
    for words in ("coco", "visdrone", "AP_plain", "lost AP50", "Dupe", "all sizes", assessment.data_digest[:16]):
        assert words in text
    assert "coco is comparable with pycocotools with maxDets 1, 10, 100 and ignored regions" in text
    assert "visdrone is comparable with the VisDrone2018-DET-toolkit" in text


def test_errors_are_counted_within_the_limit_of_the_first_protocol_and_what_it_leaves_out_is_told(
    root: Path, config_file: Path, progress: ImageProgress, tmp_path: Path
) -> None:
    path = write_results("coco", root)
    results = json.loads(path.read_text())
    first = results[0] | {"bbox": [0, 0, 1, 1], "score": 0.9}
    path.write_text(json.dumps([*results, *(first for _ in range(600))]))
    for protocol, expected in (("coco", 500), ("visdrone", 100)):
        scored = evaluate(Request(predictions=path, config=config_file, protocols=(protocol,)), progress)
        (note,) = analyse(scored).notes
        limit, left_out = str(scored.limit), int(note.partition("/AP: ")[2].partition(" of ")[0])
        assert note.startswith(f"counted here are the best {limit}, as for {protocol}/AP: ")
        assert note.endswith(" detections are left out, in 1 of 4 images")
        assert expected <= left_out < expected + 10
        write_report(scored, analyse(scored), tmp_path)
        assert note in (tmp_path / "report.md").read_text()
        assert note in json.loads((tmp_path / "metrics.json").read_text())["notes"]


def test_the_report_holds_metrics_curves_and_the_worst_images(assessment: EvaluationResult, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    files = write_report(assessment, analyse(assessment), folder)
    assert set(files) == set(folder.iterdir())
    document = json.loads((folder / "metrics.json").read_text())
    assert document["metrics"]["coco/AP"] == pytest.approx(1)
    assert document["protocols"] == assessment.versions
    assert document["comparable_with"] == assessment.comparable
    assert document["lost_AP50"]["all sizes"]["Miss"] == 0
    text = (folder / "report.md").read_text()
    for name in ("precision_recall.png", "recall_by_size.png", "errors.png", "worst_images.jpg"):
        assert name in text
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 200


def test_what_is_odd_about_the_ground_truth_is_told(root: Path, progress: ImageProgress) -> None:
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [
            {"id": 0, "image_id": 1, "category_id": 1, "bbox": [-5, 2, 20, 10], "area": 200},
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 0, 9], "area": 0},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [9, 9, 20, 20], "area": 300},
            {"id": 3, "image_id": 1, "category_id": 1, "bbox": [9, 40, 20, 20], "ignore": 1},
            {"id": 3, "image_id": 1, "category_id": 1, "bbox": [40, 40, 20, 20], "area": 400},
        ],
        "categories": [{"id": 1, "name": "boat"}],
    }
    (root / "odd").mkdir()
    Image.new("L", (96, 96)).save(root / "odd" / "a.png")
    (root / "odd" / "annotations.json").write_text(json.dumps(content))
    (root / "c.yaml").write_text(f"data: {{format: coco, root: {root}, train: odd, val: odd}}\n")
    (root / "none.json").write_text("[]")
    notes = evaluate(Request(predictions=root / "none.json", config=root / "c.yaml"), progress).notes
    for words in (
        "1 annotations have no `area`", "an annotation has id 0", "1 annotations have the id of another one",
        "2 of 5 annotated objects leave their image or have no area", "1 of 5 annotated objects are flagged as ignored",
        "1 of 5 annotated objects have an annotated area unlike their box's",
    ):  # fmt: skip
        assert any(words in note for note in notes), words


def test_a_sound_ground_truth_needs_no_notes(assessment: EvaluationResult) -> None:
    assert assessment.notes == ()


def test_classes_without_a_find_are_left_out_under_misses_and_counted(root: Path, config_file: Path) -> None:
    console = Console(file=io.StringIO(), width=300)
    path = root / "none.json"
    path.write_text("[]")
    scored = evaluate(Request(predictions=path, config=config_file), ImageProgress(console))
    print_evaluation(scored, analyse(scored), console)
    assert "count 0 under FN and Miss (all sizes: 2 of 2" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def own_store(registry_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Copy of the store with the model `spotter`, named only in the settings."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "store").mkdir()
    shutil.copy(registry_store.removeprefix("sqlite:///"), tmp_path / "store" / "mlflow.db")
    return f"sqlite:///{tmp_path}/store/mlflow.db"


@pytest.mark.slow
def test_an_evaluation_in_mlflow_names_data_model_run_user_and_parameters(
    own_store: str, config_file: Path, progress: ImageProgress, tmp_path: Path
) -> None:
    from pipelines.evaluation.tracking import track_evaluation

    settings = [f"tracking.uri={own_store}", "tracking.experiment=evaluations", "data.classes=[a, b, c]"]
    request = Request(model="models:/spotter", config=config_file, overrides=settings, track=True)
    assessment = evaluate(request, progress)
    folder = tmp_path / "report"
    files = write_report(assessment, analyse(assessment), folder)
    (folder / "notes.txt").write_text("not of the report")
    assert own_store in track_evaluation(assessment, files)

    client = MlflowClient(own_store)
    (found,) = client.search_runs([client.get_experiment_by_name("evaluations").experiment_id])
    run, version = client.get_run(found.info.run_id), client.get_model_version("spotter", "1")
    assert run.data.metrics["coco/AP"] == pytest.approx(assessment.metrics["coco/AP"])
    wanted = {
        "data.digest": assessment.data_digest,
        "protocol.coco": assessment.versions["coco"],
        "evaluated.run_id": version.run_id,
        "evaluated.model": "spotter",
        "evaluated.version": "1",
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": "mrqm evaluate",
    }
    assert wanted.items() <= run.data.tags.items()
    assert run.data.params["data.tile.size"] == "64"
    assert run.data.params["model.backbone.name"] == assessment.config.model.backbone.name
    (data,) = run.inputs.dataset_inputs
    assert assessment.data_digest.startswith(data.dataset.digest)
    assert json.loads(data.dataset.profile)["images"] == 4
    (model,) = run.inputs.model_inputs
    assert version.source == f"models:/{model.model_id}"
    assert "coco/AP" in {metric.key for metric in client.get_logged_model(model.model_id).metrics}
    logged = {file.path for file in client.list_artifacts(run.info.run_id, "report")}
    assert logged == {f"report/{file.name}" for file in files}


@pytest.mark.slow
def test_predictions_are_tracked_where_the_settings_say(
    assessment: EvaluationResult, own_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.evaluation.tracking import track_evaluation

    monkeypatch.chdir(tmp_path)
    tracking = assessment.config.tracking.model_copy(update={"uri": own_store, "experiment": "results"})
    elsewhere = replace(assessment, config=assessment.config.model_copy(update={"tracking": tracking}))
    assert own_store in track_evaluation(elsewhere, ())
    client = MlflowClient(own_store)
    (found,) = client.search_runs([client.get_experiment_by_name("results").experiment_id])
    run = client.get_run(found.info.run_id)
    assert run.data.metrics["visdrone/AP"] == pytest.approx(1)
    assert run.data.params.keys() == {key for key in run.data.params if key.startswith(("data.", "evaluation."))}
    assert not run.inputs.model_inputs
    assert not (tmp_path / "mlflow.db").exists()


def test_a_store_that_is_away_is_named_before_anything_is_predicted(
    checkpoint: Path, progress: ImageProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("pipelines.evaluation.evaluate.predict_dataset", None)
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UnreachableError, match=f"MLflow at {uri} cannot be used: nothing listens there"):
        evaluate(Request(model=str(checkpoint), overrides=[f"tracking.uri={uri}"], track=True), progress)
