from __future__ import annotations

from pathlib import Path

import pytest

from mrqm.config import DataFormat
from mrqm.data.formats.splits import find_splits
from mrqm.structures.annotations import DataError


@pytest.mark.parametrize(
    ("data_format", "files", "splits"),
    [
        ("visdrone", ["x/annotations/a.txt", "y/annotations/a.txt", "z/a.txt"], {"x": "x", "y": "y"}),
        ("coco", ["x/_annotations.coco.json", "y/a.png"], {"x": "x"}),
        ("soda-d", ["Annotations/train.json", "Annotations/val.json"], {"train": "train", "val": "val"}),
        ("yolo", ["x/images/a.png", "y/labels/a.txt"], {"x": "x"}),
        ("yolo", ["images/x/a.png", "labels/x/a.txt"], {"x": "images/x"}),
    ],
)
def test_splits_are_found(tmp_path: Path, data_format: DataFormat, files: list[str], splits: dict[str, str]) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert find_splits(data_format, tmp_path) == {name: tmp_path / folder for name, folder in splits.items()}


def test_a_source_without_splits_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder in it looks like a split of a coco data set"):
        find_splits("coco", tmp_path)
    with pytest.raises(DataError, match="gone: no such folder"):
        find_splits("coco", tmp_path / "gone")
