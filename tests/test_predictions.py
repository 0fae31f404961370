"""Result files: what is written is read again, and what cannot be meant is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from mrqm.data.records import DataError, ImageRecord
from mrqm.predictions import (
    ImageDetections,
    read_coco_results,
    read_visdrone_results,
    write_coco_results,
    write_visdrone_results,
)

LABELS = {1: 0, 3: 1}
CLASSES = ("boat", "buoy")
ENTRY: dict[str, Any] = {"image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
LINE = "1,2,3,4,0.5,1,-1,-1"


def make_record(image_id: int, stem: str) -> ImageRecord:
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return ImageRecord(Path(f"images/{stem}.jpg"), image_id, (540, 960), *none, *none)


RECORDS = (make_record(9, "b"), make_record(5, "a"), make_record(7, "c"))


def random_detections(seed: int, count: int) -> ImageDetections:
    rng = np.random.default_rng(seed)
    left_top = rng.uniform(0, 400, (count, 2)).astype(np.float32)
    boxes = np.concatenate([left_top, left_top + rng.uniform(3, 40, (count, 2))], axis=1).astype(np.float64)
    return ImageDetections(boxes, np.sort(rng.random(count))[::-1], rng.integers(0, 2, count))


FOUND = (random_detections(0, 30), random_detections(1, 0), random_detections(2, 7))


def assert_same(found: tuple[ImageDetections, ...], expected: tuple[ImageDetections, ...]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-4)
        np.testing.assert_array_equal(a.scores, b.scores)
        np.testing.assert_array_equal(a.labels, b.labels)
        assert (a.boxes.shape[1], a.boxes.dtype, a.scores.dtype, a.labels.dtype) == (4, "f8", "f8", "i8")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return tmp_path / "results.json"


def write_texts(folder: Path, **texts: str) -> Path:
    for record in RECORDS:
        (folder / f"{record.path.stem}.txt").write_text(texts.get(record.path.stem, ""))
    return folder


def test_coco_results_come_back(coco: Path) -> None:
    write_coco_results(coco, {r.image_id: f for r, f in zip(RECORDS, FOUND, strict=True)}, category_ids=(1, 3))
    assert_same(read_coco_results(coco, RECORDS, LABELS), FOUND)
    assert list(coco.parent.iterdir()) == [coco]


def test_coco_results_are_what_pycocotools_reads(coco: Path) -> None:
    write_coco_results(coco, {9: FOUND[0]}, category_ids=(1, 3))
    truth = COCO()
    truth.dataset = {"images": [{"id": 9}], "annotations": [], "categories": [{"id": 1}, {"id": 3}]}
    truth.createIndex()
    results = truth.loadRes(str(coco))
    loaded = results.loadAnns(results.getAnnIds())
    assert [a["category_id"] for a in loaded] == [(1, 3)[label] for label in FOUND[0].labels]
    widths = FOUND[0].boxes[:, 2] - FOUND[0].boxes[:, 0]
    np.testing.assert_allclose([a["bbox"][2] for a in loaded], widths, atol=1e-4)


def test_coco_results_are_sorted_by_score_and_keep_the_files_order_where_equal(coco: Path) -> None:
    scores, lefts = (0.2, 0.9, 0.9, 0.9), (1, 2, 3, 4)
    coco.write_text(
        json.dumps([ENTRY | {"score": s, "bbox": [x, 2, 3, 4]} for s, x in zip(scores, lefts, strict=True)])
    )
    found = read_coco_results(coco, RECORDS, LABELS)[1]
    assert found.scores.tolist() == [0.9, 0.9, 0.9, 0.2]
    assert found.boxes[:, 0].tolist() == [2, 3, 4, 1]


def test_an_empty_coco_list_means_that_nothing_was_found(coco: Path) -> None:
    coco.write_text("[]")
    assert [len(found.scores) for found in read_coco_results(coco, RECORDS, LABELS)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"results\.json: empty file; .*\[\]"),
        ("{}", r"results\.json: not a COCO result file: entry: Input should be a valid"),
        ("[{]", r"results\.json: not a COCO result file"),
        (json.dumps([ENTRY, ENTRY | {"score": float("nan")}]), r"entry 1 score: .*finite"),
        (json.dumps([ENTRY | {"bbox": [1, float("inf"), 3, 4]}]), r"entry 0 bbox 1: .*finite"),
        (json.dumps([ENTRY | {"bbox": [1, 2, 3]}]), r"entry 0 bbox 3: Field required"),
        (json.dumps([ENTRY | {"bbox": [9, 9, -3, 4]}]), r"entry 0 has bbox \[9.0, 9.0, -3.0, 4.0\]; expected \[left"),
        (json.dumps([{}] * 4), r"entry 0 image_id: Field required \(and 15 more faults\)"),
        (
            json.dumps([ENTRY] + [ENTRY | {"image_id": i} for i in (8, 6, 8)]),
            "2 image ids .* first image_id 8 in entry 1",
        ),
        (json.dumps([ENTRY, ENTRY | {"category_id": 2}]), "1 category ids .* first category_id 2 in entry 1"),
    ],
)
def test_coco_results_that_cannot_be_meant_are_refused(coco: Path, text: str, message: str) -> None:
    coco.write_text(text)
    with pytest.raises(DataError, match=message):
        read_coco_results(coco, RECORDS, LABELS)


def test_a_missing_coco_file_is_named(coco: Path) -> None:
    with pytest.raises(DataError, match=r"results\.json: no such file"):
        read_coco_results(coco, RECORDS, LABELS)


def test_visdrone_results_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    write_visdrone_results(folder, {r.path.stem: f for r, f in zip(RECORDS, FOUND, strict=True)})
    assert_same(read_visdrone_results(folder, RECORDS, CLASSES), FOUND)


def test_visdrone_rows_are_written_by_falling_score(tmp_path: Path) -> None:
    boxes = np.array([[10, 20, 13.5, 24], [1, 2, 3, 5]])
    found = ImageDetections(boxes, np.array([0.25, 0.75]), np.array([0, 9]))
    write_visdrone_results(tmp_path, {"a": found})
    assert (tmp_path / "a.txt").read_text() == "1,2,2,3,0.75,10,-1,-1\n10,20,3.5,4,0.25,1,-1,-1\n"


def test_visdrone_rows_are_sorted_by_score_and_keep_the_files_order_where_equal(tmp_path: Path) -> None:
    rows = [f"{x},2,3,4,{score},2,-1,-1," for x, score in enumerate((0.2, 0.9, 0.9, 0.9))]
    found = read_visdrone_results(write_texts(tmp_path, a="\n".join(rows)), RECORDS, CLASSES)[1]
    assert found.boxes[:, 0].tolist() == [1, 2, 3, 0]
    assert found.labels.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("line", ["1,2,3,4,0.5,1", "1,2,nan,4,0.5,1,-1,-1", "1 2 3 4 0.5 1 -1 -1", "a,b", "[]"])
def test_a_visdrone_line_that_does_not_parse_is_named(tmp_path: Path, line: str) -> None:
    folder = write_texts(tmp_path, c=f"{LINE}\n\n{line}\n")
    with pytest.raises(DataError, match=r"c\.txt:3: cannot read .*; expected eight numbers left,top,width,height"):
        read_visdrone_results(folder, RECORDS, CLASSES)


def test_a_negative_width_of_a_visdrone_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"c\.txt:2: negative width or height in '1,2,-3,4,0\.5,1,-1,-1'"):
        read_visdrone_results(write_texts(tmp_path, c=f"{LINE}\n1,2,-3,4,0.5,1,-1,-1"), RECORDS, CLASSES)


@pytest.mark.parametrize("category", ["0", "3", "1.5"])
def test_an_unknown_visdrone_category_is_named_with_the_known_ones(tmp_path: Path, category: str) -> None:
    folder = write_texts(tmp_path, c=f"1,2,3,4,0.5,{category},-1,-1")
    with pytest.raises(DataError, match=rf"c\.txt:1: unknown category {category}; known are 1 boat, 2 buoy"):
        read_visdrone_results(folder, RECORDS, CLASSES)


def test_images_without_visdrone_text_are_counted(tmp_path: Path) -> None:
    (write_texts(tmp_path) / "a.txt").unlink()
    (tmp_path / "c.txt").unlink()
    with pytest.raises(DataError, match=r"images without result file.*: 2 of them, first .*a\.txt"):
        read_visdrone_results(tmp_path, RECORDS, CLASSES)


def test_visdrone_texts_of_unknown_images_are_counted(tmp_path: Path) -> None:
    (write_texts(tmp_path) / "z.txt").write_text(LINE)
    with pytest.raises(DataError, match=r"annotations do not have: 1 of them, first .*z\.txt"):
        read_visdrone_results(tmp_path, RECORDS, CLASSES)


def test_images_that_share_a_name_cannot_have_visdrone_texts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="several images are named a"):
        read_visdrone_results(write_texts(tmp_path), (*RECORDS, make_record(11, "a")), CLASSES)


def test_a_visdrone_text_that_is_not_text_is_named(tmp_path: Path) -> None:
    (write_texts(tmp_path) / "b.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=r"b\.txt: not a text file"):
        read_visdrone_results(tmp_path, RECORDS, CLASSES)


def test_a_missing_visdrone_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_visdrone_results(tmp_path / "nowhere", RECORDS, CLASSES)
