"""The contract with pycocotools: a version that lacks a name or calls one otherwise fails here, by its name."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrqm.evaluation.protocols import coco_accumulation

PACKAGE = Path(coco_accumulation.__file__).parents[2]


def make_coco(**annotation: Any) -> COCO:
    coco = COCO()
    row = {"id": 1, "image_id": 0, "category_id": 0, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
    coco.dataset = {"images": [{"id": 0}], "categories": [{"id": 0}], "annotations": [row | annotation]}
    coco.createIndex()
    return coco


@pytest.fixture
def evaluation() -> COCOeval:
    found = COCOeval(make_coco(), make_coco(score=0.5), "bbox")
    found.evaluate()
    found.accumulate()
    return found


def test_pycocotools_has_every_name_that_is_used(evaluation: COCOeval) -> None:
    names = {
        COCO: ("createIndex",),
        COCOeval: ("evaluate", "evaluateImg", "accumulate"),
        evaluation: ("ious", "params", "eval"),
        evaluation.params: ("iouThrs", "recThrs", "maxDets", "areaRng", "areaRngLbl"),
    }
    assert [name for owner, owned in names.items() for name in owned if not hasattr(owner, name)] == []
    assert {"precision", "recall"} <= evaluation.eval.keys()


def test_the_replaced_method_is_called_with_the_same_arguments_and_its_entries_have_the_same_keys(
    evaluation: COCOeval, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(inspect.signature(COCOeval.evaluateImg).parameters) == ["self", "imgId", "catId", "aRng", "maxDet"]
    own = coco_accumulation._SparseCOCOeval(make_coco(passed_over=False), make_coco(score=0.5))
    own.evaluate()
    entry, expected = own.evalImgs[0], evaluation.evalImgs[0]
    assert entry.keys() <= expected.keys()
    for key in entry:
        assert np.array_equal(np.asarray(entry[key], dtype=bool), np.asarray(expected[key], dtype=bool)), key


def test_overlaps_are_known_by_image_and_class_best_detection_first(evaluation: COCOeval) -> None:
    assert evaluation.ious[0, 0].tolist() == [[1.0]]


def test_no_other_module_imports_its_classes() -> None:
    modules = (path for path in PACKAGE.rglob("*.py") if "pycocotools.coco" in path.read_text())
    assert [module.name for module in modules] == ["coco_accumulation.py"]
