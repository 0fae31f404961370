"""Matching of class names in any lists: an object keeps the name of its class."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrqm.config import DataFormat
from mrqm.data.formats.class_names import match_classes, name_numbers, relabel
from mrqm.data.formats.readers import read_annotations
from mrqm.data.formats.soda_d import SODA_CLASSES
from mrqm.data.formats.visdrone import VISDRONE_CLASSES
from mrqm.structures.annotations import AnnotationSet, DataError

Write = Callable[[Path], Path]


def write_yolo(root: Path) -> Path:
    for part in ("images", "labels"):
        (root / "train" / part).mkdir(parents=True)
    (root / "data.yaml").write_text("names: [cat, dog, bird]")
    Image.new("RGB", (100, 100)).save(root / "train/images/a.png")
    (root / "train/labels/a.txt").write_text("0 .1 .5 .1 .1\n1 .4 .5 .1 .1\n2 .8 .5 .1 .1\n")
    return root / "train"


def write_coco(root: Path) -> Path:
    (root / "train").mkdir(parents=True)
    Image.new("RGB", (100, 100)).save(root / "train/a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 9, "name": "bird"}],
        "annotations": [
            {"image_id": 1, "category_id": number, "bbox": [10 * number, 10, 8, 8], "iscrowd": int(number == 9)}
            for number in (3, 7, 9)
        ],
    }
    (root / "train/annotations.json").write_text(json.dumps(content))
    return root / "train"


def write_visdrone(root: Path) -> Path:
    for part in ("images", "annotations"):
        (root / "train" / part).mkdir(parents=True)
    Image.new("RGB", (200, 100)).save(root / "train/images/a.png")
    rows = [f"{15 * number},10,9,9,{int(number != 3)},{number},0,0" for number in range(1, 11)]
    (root / "train/annotations/a.txt").write_text("\n".join(rows))
    return root / "train"


def write_soda(root: Path) -> Path:
    for part in ("Annotations", "Images"):
        (root / part).mkdir(parents=True)
    Image.new("RGB", (200, 100)).save(root / "Images/a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [],
        "annotations": [
            {"image_id": 1, "category_id": number, "bbox": [15 * number, 10, 9, 9], "ignore": int(number == 3)}
            for number in range(1, 10)
        ],
    }
    (root / "Annotations/train.json").write_text(json.dumps(content))
    return root / "train"


FORMATS: dict[DataFormat, tuple[Write, tuple[str, ...]]] = {
    "yolo": (write_yolo, ("cat", "dog", "bird")),
    "coco": (write_coco, ("cat", "dog", "bird")),
    "visdrone": (write_visdrone, VISDRONE_CLASSES),
    "soda-d": (write_soda, SODA_CLASSES),
}


def named_boxes(annotations: AnnotationSet) -> set[tuple[str, float]]:
    """List class names and left edges of all boxes, including ignored ones."""
    (record,) = annotations.records
    labels = np.concatenate([record.labels, record.ignore_labels])
    boxes = np.concatenate([record.boxes, record.ignore_boxes])
    return {(annotations.classes[label], float(box[0])) for label, box in zip(labels, boxes, strict=True)}


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("seed", range(3))
def test_the_same_classes_in_another_order_keep_every_objects_name(
    data_format: DataFormat, seed: int, tmp_path: Path
) -> None:
    write, own = FORMATS[data_format]
    folder = write(tmp_path)
    classes = tuple(random.Random(seed).sample(own, len(own)))
    annotations = read_annotations(data_format, folder, classes)
    assert annotations.classes == classes
    assert named_boxes(annotations) == named_boxes(read_annotations(data_format, folder, own))


@pytest.mark.parametrize(
    ("data_format", "classes"),
    [
        ("yolo", ("plane",)),
        ("yolo", ("cat", "dog")),
        ("yolo", ("cat", "dog", "plane")),
        ("yolo", ("cat", "dog", "bird", "plane")),
        ("coco", ("cat", "plane")),
    ],
)
def test_another_list_is_refused_naming_both(data_format: DataFormat, classes: Sequence[str], tmp_path: Path) -> None:
    write, own = FORMATS[data_format]
    with pytest.raises(DataError) as refused:
        read_annotations(data_format, write(tmp_path), tuple(classes))
    assert str(list(classes)) in str(refused.value)
    assert str(list(own)) in str(refused.value)


def test_data_of_somebodys_own_in_a_benchmarks_layout_have_the_numbers_of_their_classes() -> None:
    for classes in (("boat", "buoy"), ("pedestrian", "cyclist", "car", "truck"), ("truck", "car")):
        assert name_numbers(VISDRONE_CLASSES, classes) == classes


def test_names_are_matched_whatever_their_order() -> None:
    assert match_classes(("a", "b", "c"), ("c", "a", "b"), "x") == (1, 2, 0)
    assert relabel(np.array([-2, -1, 0, 1, 2]), (1, 2, 0)).tolist() == [-2, -1, 1, 2, 0]
    with pytest.raises(DataError, match=r"x: its classes are \['a', 'b'\].*\['a', 'a'\]"):
        match_classes(("a", "b"), ("a", "a"), "x")
