"""Result files as written: readable by pycocotools and by VisDrone's toolkit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

from mrqm.data.formats.visdrone import VISDRONE_CLASSES
from mrqm.data.results.writer import write_coco_results, write_visdrone_results
from mrqm.structures.detections import Detections

from .result_files import FOUND


def test_coco_results_are_what_pycocotools_reads(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_coco_results(path, {9: FOUND[0]}, category_ids=(1, 3))
    assert list(tmp_path.iterdir()) == [path]
    truth = COCO()
    truth.dataset = {"images": [{"id": 9}], "annotations": [], "categories": [{"id": 1}, {"id": 3}]}
    truth.createIndex()
    results = truth.loadRes(str(path))
    loaded = results.loadAnns(results.getAnnIds())
    assert [a["category_id"] for a in loaded] == [(1, 3)[label] for label in FOUND[0].labels]
    widths = FOUND[0].boxes_xywh[:, 2]
    np.testing.assert_allclose([a["bbox"][2] for a in loaded], widths, atol=1e-4)


def test_visdrone_rows_are_written_by_falling_score(tmp_path: Path) -> None:
    boxes = np.array([[10, 20, 3.5, 4], [1, 2, 2, 3]])
    found = Detections(boxes, np.array([0.25, 0.75]), np.array([0, 9]))
    write_visdrone_results(tmp_path, {"a": found}, VISDRONE_CLASSES)
    assert (tmp_path / "a.txt").read_text() == "1,2,2,3,0.75,10,-1,-1\n10,20,3.5,4,0.25,1,-1,-1\n"
