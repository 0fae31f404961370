"""COCO result files of every writer: written files are read back, and ambiguous ones are refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mrqm.data.results.coco import read_coco_results
from mrqm.data.results.writer import write_coco_results
from mrqm.structures.annotations import DataError

from .result_files import FOUND, RECORDS, assert_same, make_record

LABELS = {1: 0, 3: 1}
ENTRY: dict[str, Any] = {"image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return tmp_path / "results.json"


def test_coco_results_come_back(coco: Path) -> None:
    write_coco_results(coco, {r.image_id: f for r, f in zip(RECORDS, FOUND, strict=True)}, category_ids=(1, 3))
    assert_same(read_coco_results(coco, RECORDS, LABELS).detections, FOUND)


def test_coco_results_are_sorted_by_score_and_keep_the_files_order_where_equal(coco: Path) -> None:
    scores, lefts = (0.2, 0.9, 0.9, 0.9), (1, 2, 3, 4)
    coco.write_text(
        json.dumps([ENTRY | {"score": s, "bbox": [x, 2, 3, 4]} for s, x in zip(scores, lefts, strict=True)])
    )
    found = read_coco_results(coco, RECORDS, LABELS).detections[1]
    assert found.scores.tolist() == [0.9, 0.9, 0.9, 0.2]
    assert found.boxes_xywh[:, 0].tolist() == [2, 3, 4, 1]


def test_an_empty_coco_list_means_that_nothing_was_found(coco: Path) -> None:
    coco.write_text("[]")
    assert [len(found.scores) for found in read_coco_results(coco, RECORDS, LABELS).detections] == [0, 0, 0]


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


@pytest.mark.parametrize(
    "ids", [("b7c1", "0f-33", "17"), (2**64 + 1, 2**64 + 2, 2**64), (-(2**70), "x", 0)], ids=["text", "huge", "mixed"]
)
def test_ids_are_of_any_kind(coco: Path, ids: tuple[Any, ...]) -> None:
    records = [make_record(image_id, stem) for image_id, stem in zip(ids, "bac", strict=True)]
    categories = ("c-1", 2**80)
    write_coco_results(coco, dict(zip(ids, FOUND, strict=True)), categories)
    assert_same(read_coco_results(coco, records, {"c-1": 0, 2**80: 1}).detections, FOUND)


@pytest.mark.parametrize("names", [("b", "a", "c"), ("b.jpg", "a.jpg", "c.jpg")])
def test_file_names_stand_for_images_as_ultralytics_writes_them(coco: Path, names: tuple[str, ...]) -> None:
    write_coco_results(coco, dict(zip(names, FOUND, strict=True)), (1, 3))
    results = read_coco_results(coco, RECORDS, LABELS)
    assert_same(results.detections, FOUND)
    assert "every image_id is the name of an image file" in results.notes[0]


NUMBERED = (make_record(2, "0001"), make_record(1, "0002"), make_record(5, "0003"))


def test_numbers_in_file_names_stand_for_images_where_they_are_no_ids(coco: Path) -> None:
    write_coco_results(coco, dict(zip((1, 2, 3), FOUND, strict=True)), (1, 3))
    assert_same(read_coco_results(coco, NUMBERED, LABELS).detections, FOUND)


def test_a_file_name_is_believed_more_than_a_number_that_is_another_images_id(coco: Path) -> None:
    entry = ENTRY | {"image_id": 1, "file_name": "0001.jpg"}
    coco.write_text(json.dumps([entry]))
    results = read_coco_results(coco, NUMBERED, LABELS)
    assert [len(found.scores) for found in results.detections] == [1, 0, 0]
    assert "images are found by file_name" in results.notes[0]


def test_images_with_objects_of_which_results_say_nothing_are_noted(coco: Path) -> None:
    box = ((1.0, 2.0, 3.0, 4.0), 0)
    records = [
        make_record(5, "a", [box]),
        make_record(6, "b", [box, box]),
        make_record(7, "c"),
        make_record(8, "d", [box]),
    ]
    coco.write_text(json.dumps([ENTRY]))
    (note,) = read_coco_results(coco, records, LABELS).notes
    assert "has no entry for 2 of 4 images, first b.jpg; their 3 objects count as missed" in note
    coco.write_text(json.dumps([ENTRY | {"image_id": number} for number in (5, 6, 8)]))
    assert not read_coco_results(coco, records, LABELS).notes


def test_detections_of_annotated_categories_that_are_no_classes_are_passed_over_aloud(coco: Path) -> None:
    coco.write_text(json.dumps([ENTRY | {"category_id": category} for category in (9, 1, 9)]))
    results = read_coco_results(coco, RECORDS, {**LABELS, 9: None})
    assert results.detections[1].labels.tolist() == [0]
    assert "2 detections of category 9, which is not among data.classes, are ignored" in results.notes[0]


@pytest.mark.parametrize(
    ("what", "ids", "known", "guess"),
    [
        ("image_id", (4, 6, 8), None, "plus 1 is known: are these images numbered from 0"),
        ("image_id", (6, 8, 10), None, "minus 1 is known: are these images numbered from 1"),
        ("image_id", (0, 1, 2), None, "positions among the 3 images"),
        ("image_id", (55, 77), None, "results of the same data set"),
        ("category_id", (0, 1), {1: 0, 2: 1}, "plus 1 is known: are these categories numbered from 0"),
        ("category_id", (1, 2, 3), {1: 0, 3: 1, 90: 2}, "positions among the 3 categories"),
    ],
)
def test_unknown_ids_are_explained(coco: Path, what: str, ids: Any, known: Any, guess: str) -> None:
    coco.write_text(json.dumps([ENTRY | {what: number} for number in ids]))
    with pytest.raises(DataError, match=guess):
        read_coco_results(coco, RECORDS, known or LABELS)
