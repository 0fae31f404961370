"""Result files of every writer, scored by the command's own function and by pycocotools."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from mrqm.structures.annotations import DataError
from pipelines.console.progress import ImageProgress
from pipelines.evaluation.evaluate import EvaluationResult, evaluate
from pipelines.evaluation.report import analyse, print_evaluation, write_report
from pipelines.evaluation.request import Request

WIDTH, HEIGHT = 320, 240
NAMES = ("boat", "buoy", "kite")


class Data:
    """COCO data set of four images, with nearly correct results of different scores."""

    def __init__(self, root: Path, image_ids: Sequence[Any] = (1, 2, 3, 4), category_ids: Sequence[Any] = (1, 2, 3)):
        rng = np.random.default_rng(0)
        self.root, self.config = root, root / "config.yaml"
        images = [
            {"id": number, "file_name": f"im{index:03}.png", "width": WIDTH, "height": HEIGHT}
            for index, number in enumerate(image_ids)
        ]
        self.results: list[dict[str, Any]] = []
        annotations = []
        for number in image_ids:
            for left, top, side in rng.integers([10, 10, 8], [280, 200, 30], (6, 3)).tolist():
                category = category_ids[int(rng.integers(0, 2))]
                box = {"image_id": number, "category_id": category, "bbox": [left, top, side, side]}
                annotations.append({"id": len(annotations) + 1, "area": side * side, "iscrowd": 0, **box})
                shift = rng.normal(0, 0.04 * side, 2)
                moved = [left + shift[0], top + shift[1], side, side]
                self.results.append({**box, "bbox": moved, "score": float(rng.uniform(0.1, 1))})
        categories = [{"id": number, "name": name} for number, name in zip(category_ids, NAMES, strict=True)]
        self.content = {"images": images, "annotations": annotations, "categories": categories}

    def write(self, results: Sequence[Mapping[str, Any]] | None = None, *, images: bool = True) -> Path:
        """Write the files; return the path of the results."""
        for split in ("train", "val"):
            (self.root / split).mkdir(parents=True, exist_ok=True)
            (self.root / split / "annotations.json").write_text(json.dumps(self.content))
            for image in self.content["images"] if images else ():
                Image.new("L", (WIDTH, HEIGHT)).save(self.root / split / image["file_name"])
        self.config.write_text(f"data: {{format: coco, root: {self.root}, train: train, val: val}}\n")
        path = self.root / "results.json"
        path.write_text(json.dumps(self.results if results is None else results))
        return path

    def score(
        self, results: Sequence[Mapping[str, Any]] | None = None, *overrides: str, **request: Any
    ) -> EvaluationResult:
        path = self.write(results)
        asked = Request(predictions=path, config=self.config, overrides=overrides, **request)
        return evaluate(asked, ImageProgress(Console(file=io.StringIO())))


def pycocotools_ap(data: Data) -> float:
    truth = COCO()
    truth.dataset = data.content
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(data.results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path / "data")


@pytest.mark.parametrize(
    ("image_ids", "category_ids"),
    [
        ((1, 2, 3, 4), (1, 2, 3)),
        (("uuid-1", "uuid-2", "uuid-3", "uuid-4"), ("b", "c", "a")),
        (tuple(2**64 + i for i in range(1, 5)), (2**70, 2**71, 5)),
        ((-1, "5", 2**64, "x"), (7, "seven", 0)),
    ],
    ids=["numbers", "texts", "huge", "mixed"],
)
def test_figures_do_not_depend_on_what_ids_are(data: Data, tmp_path: Path, image_ids: Any, category_ids: Any) -> None:
    expected = pycocotools_ap(data)
    assert 0.3 < expected < 0.95
    named = Data(tmp_path / "named", image_ids, category_ids).score()
    assert named.metrics["coco/AP"] == pytest.approx(expected, abs=1e-9)
    assert not named.notes


def test_notes_stand_beside_the_figures(data: Data) -> None:
    scored = data.score([result for result in data.results if result["image_id"] < 3])
    (note,) = scored.notes
    assert "has no entry for 2 of 4 images, first im002.png; their 12 objects count as missed" in note


def test_objects_with_the_flag_ignore_need_not_be_found(data: Data) -> None:
    for annotation in data.content["annotations"][::3]:
        annotation["ignore"] = 1
    right = [{**annotation, "score": 0.9} for annotation in data.content["annotations"] if not annotation.get("ignore")]
    assert data.score(right).metrics["coco/AP"] == pytest.approx(1)


# ----------------------------------------------------------------------------------------------- annotations alone


def without_images(data: Data) -> EvaluationResult:
    path = data.write(images=False)
    return evaluate(Request(predictions=path, config=data.config), ImageProgress(Console(file=io.StringIO())))


def test_scores_need_no_images_and_no_training_data(data: Data) -> None:
    expected = pycocotools_ap(data)
    with_images = data.score()
    shutil.rmtree(data.root)
    data.write(images=False)
    shutil.rmtree(data.root / "train")
    scored = without_images(data)
    assert scored.metrics["coco/AP"] == pytest.approx(expected, abs=1e-9)
    assert scored.metrics == pytest.approx(with_images.metrics, nan_ok=True)
    assert scored.data_digest != with_images.data_digest
    assert "the digest covers the annotations alone" in scored.notes[0]


def test_a_report_without_images_shows_boxes_on_grey(data: Data, tmp_path: Path) -> None:
    scored = without_images(data)
    files = write_report(scored, analyse(scored), tmp_path / "report")
    with Image.open(next(file for file in files if file.name == "worst_images.jpg")) as picture:
        assert min(picture.size) > 200


def test_a_category_that_no_training_object_has_is_one_all_the_same(data: Data) -> None:
    scored = data.score([*data.results, {**data.results[0], "category_id": 3, "score": 0.99}])
    assert scored.found.classes == NAMES
    assert scored.metrics["coco/AP"] == pytest.approx(pycocotools_ap(data), abs=1e-9)
    assert math.isnan(scored.metrics["coco/AP/kite"])


def test_an_annotation_without_size_and_image_says_how_to_give_one(data: Data, tmp_path: Path) -> None:
    for image in data.content["images"]:
        del image["width"]
    with pytest.raises(
        DataError, match=r"im000\.png: its size is in neither the annotations nor a list \(--sizes\) nor the image"
    ):
        without_images(data)
    sizes = tmp_path / "sizes.csv"
    sizes.write_text("".join(f"im{index:03}.png,{WIDTH},{HEIGHT}\n" for index in range(4)))
    path = data.write(images=False)
    request = Request(predictions=path, config=data.config, sizes=sizes)
    assert evaluate(request, ImageProgress(Console(file=io.StringIO()))).metrics["coco/AP"] > 0.3


# -------------------------------------------------------------------------------------------------------- doubts


def with_box(data: Data, rewrite: Any) -> list[dict[str, Any]]:
    return [{**result, "bbox": rewrite(*result["bbox"])} for result in data.results]


@pytest.mark.parametrize(
    ("rewrite", "said"),
    [
        (lambda x, y, w, h: [x, y, x + w, y + h], "[left, top, right, bottom] in px"),
        (lambda x, y, w, h: [2 * x, 2 * y, 2 * w, 2 * h], "[left, top, width, height] in px of the image at twice its"),
        (lambda x, y, w, h: [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT], "in shares of the image's sides"),
    ],
)
def test_results_that_score_nothing_are_diagnosed(data: Data, tmp_path: Path, rewrite: Any, said: str) -> None:
    scored = data.score(with_box(data, rewrite))
    assert scored.metrics["coco/AP50"] < 0.05
    log = io.StringIO()
    print_evaluation(scored, analyse(scored), Console(file=log, width=80))
    assert "AP is near 0" in log.getvalue()
    assert said in " ".join(log.getvalue().split())
    write_report(scored, analyse(scored), tmp_path / "report")
    assert said in (tmp_path / "report" / "report.md").read_text()
    assert said in json.loads((tmp_path / "report" / "metrics.json").read_text())["diagnosis"]["advice"]


def test_results_that_score_something_are_not_diagnosed(data: Data) -> None:
    assert data.score().diagnosis is None
    assert data.score([]).diagnosis is None


def test_scores_in_percent_are_noted_and_change_no_figure(data: Data) -> None:
    plain = data.score()
    percent = data.score([{**result, "score": 100 * result["score"]} for result in data.results])
    assert percent.metrics == pytest.approx(plain.metrics, nan_ok=True)
    assert "not from 0 to 1: percentages?" in percent.notes[0]


def test_detections_that_are_listed_twice_are_noted(data: Data) -> None:
    scored = data.score([*data.results, *data.results])
    assert "24 of 48 detections are duplicates, which count as wrong" in scored.notes[0]


def test_results_without_any_detection_say_so(data: Data) -> None:
    assert "has no detection" in data.score([]).notes[-1]


# ------------------------------------------------------------------------------------------------- VisDrone's order


def official_ap(root: Path, texts: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, float]:
    """Compute AP and AR@k of one class without ignored regions, row by row as the toolkit's calcAccuracy does."""
    recall, areas = {}, []
    for limit in (1, 10, 100, 500):
        recalls = []
        for threshold in np.arange(0.5, 1, 0.05):
            right, objects = [], 0
            for stem, rows in texts.items():
                text = (root / "val" / "annotations" / f"{stem}.txt").read_text()
                truth = [[float(part) for part in line.split(",")[:4]] for line in text.splitlines()]
                objects += len(truth)
                taken: set[int] = set()
                for row in sorted(rows[:limit], key=lambda row: -row[4]):
                    best, chosen = threshold, -1
                    for index, box in enumerate(truth):
                        if index not in taken and (iou := plain_iou(row, box)) >= best:
                            best, chosen = iou, index
                    taken |= {chosen} - {-1}
                    right.append((row[4], chosen >= 0))
            right.sort(key=lambda entry: -entry[0])
            hits = np.cumsum([hit for _, hit in right])
            recalls.append(hits[-1] / objects)
            if limit == 500:
                precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
                areas.append(float((np.diff(hits / objects, prepend=0) * precision).sum()))
        recall[f"AR@{limit}"] = float(np.mean(recalls))
    return {"AP": float(np.mean(areas)), **recall}


def plain_iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


@pytest.mark.parametrize("rows", [40, 700])
def test_unsorted_texts_are_sorted_and_the_official_figures_are_told(squares: Any, tmp_path: Path, rows: int) -> None:
    root = squares(images=2, side=96, objects=5)
    rng = np.random.default_rng(0)
    texts: dict[str, list[list[float]]] = {}
    for path in sorted((root / "val" / "annotations").iterdir()):
        truth = [[float(part) for part in line.split(",")[:4]] for line in path.read_text().splitlines()]
        path.write_text("".join(f"{','.join(f'{v:g}' for v in box)},1,1,0,0\n" for box in truth))
        strays = rng.integers(1, 20, (rows, 4)).tolist()
        found = [
            [*stray, round(float(score), 6)] for stray, score in zip(strays, rng.uniform(0, 0.5, rows), strict=True)
        ]
        texts[path.stem] = [*found, *([*box, round(float(rng.uniform(0.4, 1)), 6)] for box in truth)]
    folder = tmp_path / "texts"
    folder.mkdir()
    for stem, lines in texts.items():
        (folder / f"{stem}.txt").write_text(
            "".join(f"{x:g},{y:g},{w:g},{h:g},{s},1,-1,-1\n" for x, y, w, h, s in lines)
        )
    config = tmp_path / "config.yaml"
    config.write_text(f"data: {{root: {root}, train: train, val: val, classes: [blue]}}\n")
    request = Request(predictions=folder, config=config, protocols=("visdrone",))
    scored = evaluate(request, ImageProgress(Console(file=io.StringIO())))
    sorted_rows = {stem: sorted(lines, key=lambda row: -row[4]) for stem, lines in texts.items()}
    ours = official_ap(root, sorted_rows)
    assert {name: scored.metrics[f"visdrone/{name}"] for name in ours} == pytest.approx(ours, abs=1e-9)
    official = official_ap(root, texts)
    (note,) = (note for note in scored.notes if "not sorted by score" in note)
    assert "the rows of 2 texts" in note
    assert ("AP " in note) == (rows > 500)
    for name, value in official.items():
        changed = abs(value - ours[name]) > 1e-9
        assert (f"{name} {value:.4f} instead of {ours[name]:.4f}" in note) == changed, name
    for stem, lines in sorted_rows.items():
        (folder / f"{stem}.txt").write_text(
            "".join(f"{x:g},{y:g},{w:g},{h:g},{s},1,-1,-1\n" for x, y, w, h, s in lines)
        )
    assert not any("not sorted" in note for note in evaluate(request, ImageProgress(Console(file=io.StringIO()))).notes)
