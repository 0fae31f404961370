from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mrqm.data.formats.soda_d import SODA_CLASSES, read_soda
from mrqm.structures.annotations import IGNORED_REGION, DataError

WriteSoda = Callable[..., Path]


def annotation(category_id: int, bbox: Sequence[float], ignore: int = 0, **more: object) -> dict[str, object]:
    return {"image_id": 1, "category_id": category_id, "bbox": bbox, "ignore": ignore, **more}


@pytest.fixture
def write_soda(tmp_path: Path, painted: Callable[..., NDArray[np.uint8]]) -> WriteSoda:
    """Write SODA-D's raw layout with one image of 96×128 px; returns the split's folder, which does not exist."""

    def write(annotations: Sequence[Mapping[str, Any]], images: str = "Images") -> Path:
        (tmp_path / images).mkdir(parents=True)
        (tmp_path / "Annotations").mkdir()
        Image.fromarray(painted((96, 128))).save(tmp_path / images / "a.png")
        categories = [{"id": number, "name": name} for number, name in enumerate((*SODA_CLASSES, "ignore"), start=1)]
        content = {
            "images": [{"id": 1, "file_name": "a.png", "height": 96, "width": 128}],
            "annotations": list(annotations),
            "categories": categories,
        }
        (tmp_path / "Annotations" / "train.json").write_text(json.dumps(content))
        return tmp_path / "train"

    return write


def test_categories_1_to_9_are_the_classes(write_soda: WriteSoda) -> None:
    annotations = read_soda(write_soda([annotation(1, (1, 2, 3, 4)), annotation(9, (5, 6, 7, 8))]))
    assert annotations.classes == SODA_CLASSES
    (record,) = annotations.records
    np.testing.assert_array_equal(record.boxes, [[1, 2, 4, 6], [5, 6, 12, 14]])
    assert record.labels.tolist() == [0, 8]


def test_a_file_without_categories_is_read_by_their_known_numbers(write_soda: WriteSoda) -> None:
    folder = write_soda([annotation(9, (5, 6, 7, 8))])
    path = folder.parent / "Annotations" / "train.json"
    content = json.loads(path.read_text())
    del content["categories"]
    path.write_text(json.dumps(content))
    assert read_soda(folder).records[0].labels.tolist() == [8]


def test_category_10_is_a_region_where_nobody_looked(write_soda: WriteSoda) -> None:
    (record,) = read_soda(write_soda([annotation(10, (1, 2, 30, 40), ignore=1), annotation(10, (1, 2, 3, 4))])).records
    assert len(record.boxes) == 0
    np.testing.assert_array_equal(record.ignore_boxes, [[1, 2, 31, 42], [1, 2, 4, 6]])
    assert record.ignore_labels.tolist() == [IGNORED_REGION, IGNORED_REGION]


def test_a_flagged_object_is_ignored_with_its_class_and_crowds_do_not_exist(write_soda: WriteSoda) -> None:
    flagged = annotation(5, (1, 2, 3, 4), ignore=1)
    (record,) = read_soda(write_soda([flagged, annotation(6, (5, 6, 7, 8), iscrowd=1)])).records
    assert (record.labels.tolist(), record.ignore_labels.tolist()) == ([5], [4])
    assert (record.truth.ignored.tolist(), record.truth.crowd.tolist()) == ([True, False], [False, False])


def test_images_may_lie_in_a_folder_of_their_split(write_soda: WriteSoda) -> None:
    folder = write_soda([annotation(1, (1, 2, 3, 4))], images="Images/train")
    assert read_soda(folder).records[0].path == folder.parent / "Images" / "train" / "a.png"


def test_an_unknown_split_is_named_with_those_that_are_there(write_soda: WriteSoda) -> None:
    folder = write_soda([])
    with pytest.raises(DataError, match=r"val\.json: no such file; splits that are there: train"):
        read_soda(folder.parent / "val")


def test_a_category_beyond_the_ten_is_named(write_soda: WriteSoda) -> None:
    with pytest.raises(DataError, match=r"annotations\.0 has category 11"):
        read_soda(write_soda([annotation(11, (1, 2, 3, 4))]))
