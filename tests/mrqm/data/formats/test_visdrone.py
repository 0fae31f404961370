from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrqm.data.formats.visdrone import VISDRONE_CLASSES, read_rows, read_visdrone
from mrqm.structures.annotations import IGNORED_REGION, OTHER_OBJECT, DataError, Repairs

from ..conftest import WriteVisDrone

CLASSES = ("car", "truck")


def test_lines_become_boxes_and_labels(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": "10,20,30,5,1,4,0,0\n1,2,3,4,1,10,1,2\n"})
    (record,) = read_visdrone(folder).records
    assert record.size == (96, 128)
    assert record.path == folder / "images" / "a.png"
    np.testing.assert_array_equal(record.boxes, [[10, 20, 40, 25], [1, 2, 4, 6]])
    assert record.boxes.dtype == np.float32
    assert record.labels.tolist() == [3, 9]
    assert record.labels.dtype == np.int64


def test_the_classes_are_visdrones_ten_unless_named(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": "1,2,3,4,1,2,0,0"})
    assert read_visdrone(folder).classes == VISDRONE_CLASSES
    named = read_visdrone(folder, CLASSES)
    assert named.classes == CLASSES
    assert named.records[0].labels.tolist() == [1]


@pytest.mark.parametrize(
    ("row", "label"),
    [("5,5,9,9,0,0,0,0", IGNORED_REGION), ("5,5,9,9,1,3,0,0", OTHER_OBJECT), ("5,5,9,9,0,2,0,0", 1)],
)
def test_what_annotators_did_not_settle_is_ignored(write_visdrone: WriteVisDrone, row: str, label: int) -> None:
    (record,) = read_visdrone(write_visdrone({"a": f"1,2,3,4,1,1,0,0\n{row}"}), CLASSES).records
    np.testing.assert_array_equal(record.boxes, [[1, 2, 4, 6]])
    np.testing.assert_array_equal(record.ignore_boxes, [[5, 5, 14, 14]])
    assert record.ignore_labels.tolist() == [label]


def test_others_of_visdrone_are_category_11(write_visdrone: WriteVisDrone) -> None:
    (record,) = read_visdrone(write_visdrone({"a": "5,5,9,9,0,11,0,0"})).records
    assert (len(record.boxes), len(record.ignore_boxes)) == (0, 1)


def test_trailing_commas_blank_lines_and_carriage_returns_are_accepted(write_visdrone: WriteVisDrone) -> None:
    (record,) = read_visdrone(write_visdrone({"a": "10,20,30,5,1,4,0,0,\r\n\r\n1,2,3,4,1,10,1,2,\r\n"})).records
    assert len(record.boxes) == 2


def test_an_empty_annotation_file_is_an_image_without_objects(write_visdrone: WriteVisDrone) -> None:
    (record,) = read_visdrone(write_visdrone({"a": ""})).records
    assert record.boxes.shape == (0, 4)
    assert record.labels.shape == (0,)
    assert record.ignore_boxes.shape == (0, 4)


def test_degenerate_boxes_are_dropped_and_boxes_beyond_the_border_clipped(write_visdrone: WriteVisDrone) -> None:
    text = "10,10,0,5,1,4,0,0\n10,10,5,-3,1,4,0,0\n120,90,20,20,1,4,0,0\n300,10,5,5,1,4,0,0\n1,1,2,2,1,4,0,0"
    annotations = read_visdrone(write_visdrone({"a": text}))
    np.testing.assert_array_equal(annotations.records[0].boxes, [[120, 90, 128, 96], [1, 1, 3, 3]])
    assert len(annotations.records[0].labels) == 2
    assert annotations.repairs == Repairs(degenerate=2, outside=1, clipped=1)


def test_scores_take_rows_as_they_are_written(write_visdrone: WriteVisDrone) -> None:
    rows = [(10, 10, 0, 5, 1, 4), (120, 90, 20.5, 20, 0, 4), (-7, 1, 9, 9, 0, 0), (1, 1, 2, 2, 1, 11)]
    text = "\n".join(f"{','.join(map(str, row))},0,0" for row in rows)
    truth = read_visdrone(write_visdrone({"a": text})).records[0].truth
    np.testing.assert_array_equal(truth.boxes_xywh, [row[:4] for row in rows])
    assert truth.labels.tolist() == [3, 3, IGNORED_REGION, OTHER_OBJECT]
    assert truth.crowd.tolist() == [False, False, True, True]
    assert truth.ignored.tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    "line", ["10,20,30", "a,b,c,d,1,4,0,0", "1,2,3,4,1,4,0,0,9", "1,2,nan,4,1,4,0,0", "1 2 3 4 1 4 0 0"]
)
def test_a_line_that_does_not_parse_is_named(write_visdrone: WriteVisDrone, line: str) -> None:
    folder = write_visdrone({"a": f"1,2,3,4,1,4,0,0\n{line}\n"})
    with pytest.raises(DataError) as caught:
        read_visdrone(folder)
    message = str(caught.value)
    assert f"{folder / 'annotations' / 'a.txt'}:2" in message
    assert line in message
    assert "left,top,width,height,score,category,truncation,occlusion" in message


@pytest.mark.parametrize(("category", "classes"), [("12", None), ("4", CLASSES), ("-1", None), ("1.5", None)])
def test_an_unknown_category_is_named_with_the_known_ones(
    write_visdrone: WriteVisDrone, category: str, classes: tuple[str, ...] | None
) -> None:
    folder = write_visdrone({"a": f"1,2,3,4,1,{category},0,0"})
    with pytest.raises(DataError, match=rf"a\.txt:1: unknown category {category}; known are .*1 \w+.*others"):
        read_visdrone(folder, classes)


def test_an_annotation_file_that_is_not_text_is_named(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": ""})
    (folder / "annotations" / "a.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=r"a\.txt: not a text file"):
        read_visdrone(folder)


@pytest.mark.parametrize("missing", [".", "images", "annotations"])
def test_a_missing_folder_is_named(tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "train"
    for part in {".", "images", "annotations"} - {missing}:
        if missing != ".":
            (folder / part).mkdir(parents=True, exist_ok=True)
    with pytest.raises(DataError, match="no such folder") as caught:
        read_visdrone(folder)
    assert str(folder / missing) in str(caught.value)


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    for part in ("images", "annotations"):
        (tmp_path / part).mkdir()
    with pytest.raises(DataError, match="no images in this folder"):
        read_visdrone(tmp_path)


def test_images_without_annotation_file_are_counted_and_the_first_named(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": "", "b": "", "c": ""})
    for name in ("b", "c"):
        (folder / "annotations" / f"{name}.txt").unlink()
    with pytest.raises(DataError, match=r"images without annotation file.*2 of them, first .*b\.png"):
        read_visdrone(folder)


def test_an_annotation_file_without_image_is_named(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": "", "b": ""})
    (folder / "images" / "b.png").unlink()
    with pytest.raises(DataError, match=r"annotation files without image: 1 of them, first .*b\.txt"):
        read_visdrone(folder)


def test_images_of_one_name_are_refused(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": "", "b": ""})
    write_visdrone({"a": ""}, suffix=".jpg")
    with pytest.raises(DataError, match=r"images that share a name.*1 of them, first .*a\.jpg"):
        read_visdrone(folder)


def test_repairs_are_kept_with_file_and_line(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": "1,2,3,4,1,4,0,0,\n\n10,10,0,5,1,4,0,0"})
    text = folder / "annotations" / "a.txt"
    assert read_visdrone(folder).repairs.log == [
        (f"{text}:1", "trailing comma left out"),
        (f"{text}:3", "box [10, 10, 10, 15] of zero or negative size dropped"),
    ]


def test_an_image_without_readable_header_has_no_record(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": "", "b": ""})
    (folder / "images" / "b.png").write_text("not an image")
    annotations = read_visdrone(folder)
    assert [record.path.stem for record in annotations.records] == ["a"]
    assert annotations.unreadable == (folder / "images" / "b.png",)


@pytest.mark.parametrize(("split", "count"), [("train", 170), ("val", 36)])
def test_real_images_read_as_a_naive_count_says(visdrone_mini: Path, split: str, count: int) -> None:
    folder = visdrone_mini / f"VisDrone2019-DET-{split}"
    annotations = read_visdrone(folder)
    assert len(annotations.records) == count
    for record in annotations.records:
        with Image.open(record.path) as image:
            assert record.size == (image.height, image.width)
        rows = [line.split(",") for line in (folder / "annotations" / f"{record.path.stem}.txt").read_text().split()]
        solid = [row for row in rows if int(row[2]) > 0 and int(row[3]) > 0]
        assert len(record.boxes) == sum(1 <= int(row[5]) <= 10 for row in solid)
        assert len(record.ignore_boxes) == sum(int(row[5]) in (0, 11) for row in solid)
        assert np.bincount(record.labels, minlength=10).tolist() == [
            sum(int(row[5]) == category for row in solid) for category in range(1, 11)
        ]


RELEASED = {  # files, evaluated boxes, ignored regions, others, most evaluated boxes of an image, commas, degenerate
    "train": (6471, 343_205, 8_813, 1_532, 902, 34, 3),
    "val": (548, 38_759, 1_378, 32, 317, 0, 0),
    "test-dev": (1610, 75_102, 2_180, 265, 461, 0, 0),
}


@pytest.mark.slow
def test_every_released_annotation_file_is_read(visdrone_annotations: Path, tmp_path: Path) -> None:
    with tarfile.open(visdrone_annotations) as archive:
        archive.extractall(tmp_path, filter="data")
    counts = {}
    for split in RELEASED:
        repairs = Repairs()
        texts = sorted((tmp_path / f"VisDrone2019-DET-{split}" / "annotations").glob("*.txt"))
        files = [read_rows(text, VISDRONE_CLASSES, repairs).fields for text in texts]
        commas = len(repairs.log)
        rows = np.concatenate(files)
        repairs.note_boxes(rows[:, :4], (10**6, 10**6), [""] * len(rows))
        evaluated = [int((fields[:, 4] == 1).sum()) for fields in files]
        categories = np.bincount(rows[:, 5].astype(int), minlength=12)
        assert categories[1:11].sum() == sum(evaluated)
        counts[split] = (
            len(files), sum(evaluated), categories[0], categories[11], max(evaluated), commas, repairs.degenerate
        )  # fmt: skip
    assert counts == RELEASED
