from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mrqm.data.formats.yolo import read_yolo, read_yolo_classes
from mrqm.structures.annotations import DataError

WriteYolo = Callable[..., Path]


@pytest.fixture
def write_yolo(tmp_path: Path, painted: Callable[..., NDArray[np.uint8]]) -> WriteYolo:
    """Write images of 100×200 px with the given label texts (None: no label file)."""

    def write(texts: Mapping[str, str | None], images: str = "train/images", labels: str = "train/labels") -> Path:
        for part in (images, labels):
            (tmp_path / part).mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            Image.fromarray(painted((100, 200))).save(tmp_path / images / f"{name}.png")
            if text is not None:
                (tmp_path / labels / f"{name}.txt").write_text(text)
        (tmp_path / "data.yaml").write_text("names: {0: boat, 1: buoy}")
        return tmp_path / "train"

    return write


def test_shares_become_px(write_yolo: WriteYolo) -> None:
    annotations = read_yolo(write_yolo({"a": "1 0.5 0.5 0.1 0.2\n0 0.05 0.1 0.1 0.2\n"}))
    (record,) = annotations.records
    assert annotations.classes == ("boat", "buoy")
    np.testing.assert_allclose(record.boxes, [[90, 40, 110, 60], [0, 0, 20, 20]], atol=1e-4)
    assert record.labels.tolist() == [1, 0]


def test_a_polygon_becomes_its_bounding_box(write_yolo: WriteYolo) -> None:
    (record,) = read_yolo(write_yolo({"a": "0 0.1 0.5 0.3 0.2 0.2 0.9"})).records
    np.testing.assert_allclose(record.boxes, [[20, 20, 60, 90]], atol=1e-4)


def test_rounded_shares_at_the_border_need_no_repair_and_others_do(write_yolo: WriteYolo) -> None:
    annotations = read_yolo(write_yolo({"a": "0 0.0500001 0.5 0.1000004 0.2\n0 0.01 0.5 0.1 0.2"}))
    assert annotations.repairs.clipped == 1
    assert annotations.records[0].boxes[0, 0] == 0
    assert annotations.repairs.log[0].where.endswith("a.txt:2")


def test_scores_take_shares_as_they_are_written(write_yolo: WriteYolo) -> None:
    text = "0 0.0500001 0.5 0.1000004 0.2\n0 0.01 0.5 0.1 0.2\n1 0.5 0.5 0 0.2\n0 0.1 0.5 0.3 0.2 0.2 0.9"
    (record,) = read_yolo(write_yolo({"a": text})).records
    shares = np.array([[0.0500001 - 0.0500002, 0.4, 0.1000004, 0.2], [-0.04, 0.4, 0.1, 0.2], [0.5, 0.4, 0, 0.2],
                       [0.1, 0.2, 0.2, 0.7]])  # fmt: skip
    np.testing.assert_allclose(record.truth.boxes_xywh, shares * [200, 100, 200, 100], atol=1e-12)
    assert (len(record.truth), len(record.boxes)) == (4, 3)


def test_an_image_without_label_file_has_no_objects_and_is_counted(write_yolo: WriteYolo) -> None:
    annotations = read_yolo(write_yolo({"a": None, "b": "", "c": "0 0.5 0.5 0.1 0.1"}))
    assert [len(record.boxes) for record in annotations.records] == [0, 0, 1]
    ((where, what),) = annotations.repairs.log
    assert where.endswith("labels/a.txt")
    assert what.startswith("1 images have no label file")


def test_folders_of_splits_may_lie_under_images_and_labels(write_yolo: WriteYolo, tmp_path: Path) -> None:
    write_yolo({"a": "0 0.5 0.5 0.1 0.1"}, images="images/val", labels="labels/val")
    assert len(read_yolo(tmp_path / "images" / "val").records[0].boxes) == 1


@pytest.mark.parametrize("row", ["0 0.5 0.5 0.1", "0 0.5 0.5 0.1 0.1 0.9", "car 0.5 0.5 0.1 0.1", "0 nan 0.5 0.1 0.1"])
def test_a_line_that_does_not_parse_is_named(write_yolo: WriteYolo, row: str) -> None:
    with pytest.raises(DataError, match=r"a\.txt:2: cannot read"):
        read_yolo(write_yolo({"a": f"0 0.5 0.5 0.1 0.1\n{row}"}))


@pytest.mark.parametrize("label", ["2", "-1", "0.5"])
def test_a_class_out_of_range_is_named(write_yolo: WriteYolo, label: str) -> None:
    with pytest.raises(DataError, match=rf"a\.txt:1: class {label} is out of range; .* 0 to 1"):
        read_yolo(write_yolo({"a": f"{label} 0.5 0.5 0.1 0.1"}))


def test_label_files_without_image_are_refused_but_for_the_class_list(write_yolo: WriteYolo) -> None:
    folder = write_yolo({"a": ""})
    (folder / "labels" / "classes.txt").write_text("boat\nbuoy")
    read_yolo(folder)
    (folder / "labels" / "b.txt").write_text("")
    with pytest.raises(DataError, match=r"label files without image: 1 of them, first .*b\.txt"):
        read_yolo(folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [("data.yaml", "names: [x, y]"), ("classes.txt", "x\ny\n"), ("dataset.yaml", "names: {1: y, 0: x}")],
)
def test_classes_are_named_by_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_yolo_classes(tmp_path / "images" / "train") == ("x", "y")


@pytest.mark.parametrize("text", ["nc: 3", "names: [x, x]", "names: {1: x}", "names: ["])
def test_a_file_that_names_no_classes_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=r"data\.yaml: "):
        read_yolo_classes(tmp_path / "train")
