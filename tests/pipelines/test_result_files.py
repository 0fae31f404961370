"""Result files of every writer, scored by the command's own function and by pycocotools."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from pipelines.evaluate import Assessment, Request, evaluate
from pipelines.image_progress import ImageProgress

WIDTH, HEIGHT = 320, 240
NAMES = ("boat", "buoy", "kite")


class Data:
    """A COCO data set of four images, and results for it that are nearly right, with differing scores."""

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
        """The files on disk; returns that of the results."""
        for split in ("train", "val"):
            (self.root / split).mkdir(parents=True, exist_ok=True)
            (self.root / split / "annotations.json").write_text(json.dumps(self.content))
            for image in self.content["images"] if images else ():
                Image.new("L", (WIDTH, HEIGHT)).save(self.root / split / image["file_name"])
        self.config.write_text(f"data: {{format: coco, root: {self.root}, train: train, val: val}}\n")
        path = self.root / "results.json"
        path.write_text(json.dumps(self.results if results is None else results))
        return path

    def score(self, results: Sequence[Mapping[str, Any]] | None = None, *overrides: str, **request: Any) -> Assessment:
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
    assert "says nothing of 2 of 4 images, first im002.png; their 12 objects count as missed" in note


def test_objects_with_the_flag_ignore_need_not_be_found(data: Data) -> None:
    for annotation in data.content["annotations"][::3]:
        annotation["ignore"] = 1
    right = [{**annotation, "score": 0.9} for annotation in data.content["annotations"] if not annotation.get("ignore")]
    assert data.score(right).metrics["coco/AP"] == pytest.approx(1)
