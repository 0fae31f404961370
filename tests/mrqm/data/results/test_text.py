"""Result texts of VisDrone and YOLO: written files are read back, and ambiguous ones are refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mrqm.data.formats.visdrone import VISDRONE_CLASSES
from mrqm.data.results.text import read_text_results, read_visdrone_results, read_yolo_results
from mrqm.data.results.writer import write_visdrone_results
from mrqm.structures.annotations import DataError
from mrqm.structures.detections import Detections

from .result_files import CLASSES, FOUND, RECORDS, assert_same, make_record

LINE = "1,2,3,4,0.5,1,-1,-1"


def write_texts(folder: Path, **texts: str) -> Path:
    for record in RECORDS:
        (folder / f"{record.path.stem}.txt").write_text(texts.get(record.path.stem, ""))
    return folder


def test_visdrone_results_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    write_visdrone_results(folder, {r.path.stem: f for r, f in zip(RECORDS, FOUND, strict=True)}, CLASSES)
    assert_same(read_visdrone_results(folder, RECORDS, CLASSES).detections, FOUND)


def test_visdrone_rows_are_sorted_by_score_and_keep_the_files_order_where_equal(tmp_path: Path) -> None:
    rows = [f"{x},2,3,4,{score},2,-1,-1," for x, score in enumerate((0.2, 0.9, 0.9, 0.9))]
    found = read_visdrone_results(write_texts(tmp_path, a="\n".join(rows)), RECORDS, CLASSES).detections[1]
    assert found.boxes_xywh[:, 0].tolist() == [1, 2, 3, 0]
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


def test_texts_know_whether_their_rows_are_sorted(tmp_path: Path) -> None:
    rows = [f"{x},2,3,4,{score},2,-1,-1" for x, score in enumerate((0.2, 0.9))]
    results = read_visdrone_results(write_texts(tmp_path, a="\n".join(rows)), RECORDS, CLASSES)
    assert results.as_written is not None
    assert results.as_written[1].scores.tolist() == [0.2, 0.9]
    assert read_visdrone_results(write_texts(tmp_path, a="\n".join(rows[::-1])), RECORDS, CLASSES).as_written is None


# ---------------------------------------------------------------------------------------------------- YOLO


def write_yolo(folder: Path, **texts: str) -> Path:
    for stem, text in texts.items():
        (folder / f"{stem}.txt").write_text(text)
    return folder


def test_yolo_texts_with_confidences_are_read_in_px(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, a="1 0.5 0.5 0.25 0.5 0.3\n0 0.25 0.25 0.5 0.5 0.9\n")
    found = read_yolo_results(folder, RECORDS, CLASSES).detections[1]
    np.testing.assert_allclose(found.boxes_xywh, [[0, 0, 480, 270], [360, 135, 240, 270]])
    assert (found.scores.tolist(), found.labels.tolist()) == ([0.9, 0.3], [0, 1])


def test_yolo_polygons_become_their_boxes(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, a="0 0.1 0.2 0.3 0.1 0.2 0.4 0.7")
    found = read_yolo_results(folder, RECORDS, CLASSES).detections[1]
    np.testing.assert_allclose(found.boxes_xywh, [[96, 54, 192, 162]])
    assert found.scores.tolist() == [0.7]


def test_an_image_without_yolo_text_is_one_where_nothing_was_found(tmp_path: Path) -> None:
    records = [make_record(1, "a", [((1, 2, 3, 4), 0)]), make_record(2, "b", [((1, 2, 3, 4), 0)]), make_record(3, "c")]
    results = read_yolo_results(write_yolo(tmp_path, a="0 0.5 0.5 0.2 0.2 0.9"), records, CLASSES)
    assert [len(found.scores) for found in results.detections] == [1, 0, 0]
    assert "has no entry for 1 of 3 images, first b.jpg; their 1 objects count as missed" in results.notes[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2 0.2", "no confidence in .*save_conf=True"),
        ("0 0.1 0.2 0.3 0.1 0.2 0.4", "no confidence in"),
        ("0 0.5 0.5 0.2", "cannot read"),
        ("0 0.5 0.5 nan 0.2 0.9", "cannot read"),
        ("boat 0.5 0.5 0.2 0.2 0.9", "cannot read"),
        ("2 0.5 0.5 0.2 0.2 0.9", "unknown class 2; the data has classes 0 to 1"),
        ("0 0.5 0.5 -0.2 0.2 0.9", "negative width or height"),
    ],
)
def test_a_yolo_line_that_cannot_be_meant_is_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(DataError, match=rf"a\.txt:1: {words}"):
        read_yolo_results(write_yolo(tmp_path, a=line), RECORDS, CLASSES)


def test_the_kind_of_texts_is_seen_from_their_first_line(tmp_path: Path) -> None:
    folder = write_texts(tmp_path, a=LINE)
    assert read_text_results(folder, RECORDS, CLASSES).detections[1].boxes_xywh.tolist() == [[1, 2, 3, 4]]
    labels = tmp_path / "run" / "labels"
    labels.mkdir(parents=True)
    write_yolo(labels, a="0 0.5 0.5 1 1 0.5")
    assert read_text_results(labels.parent, RECORDS, CLASSES).detections[1].boxes_xywh.tolist() == [[0, 0, 960, 540]]


def test_a_folder_without_any_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no text of any image, such as b\.txt"):
        read_text_results(tmp_path, RECORDS, CLASSES)


def test_visdrones_numbers_are_those_of_the_names_whatever_the_order_of_the_classes(tmp_path: Path) -> None:
    classes = ("bus", *(name for name in VISDRONE_CLASSES[::-1] if name != "bus"))
    found = Detections(np.array([[1.0, 2, 4, 6], [1, 2, 8, 9]]), np.array([0.9, 0.5]), np.array([0, 9]))
    write_visdrone_results(tmp_path, {"a": found}, classes)
    assert [line.split(",")[5] for line in (tmp_path / "a.txt").read_text().splitlines()] == ["9", "1"]
    read = read_visdrone_results(tmp_path, [make_record(1, "a")], classes).detections[0]
    assert [classes[label] for label in read.labels] == ["bus", "pedestrian"]


def test_yolo_texts_have_the_numbers_of_the_data_set(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, a="0 0.5 0.5 0.2 0.2 0.9\n1 0.5 0.5 0.2 0.2 0.8")
    (found,) = read_text_results(folder, [make_record(1, "a")], ("dog", "cat"), numbered=("cat", "dog")).detections
    assert found.labels.tolist() == [1, 0]
