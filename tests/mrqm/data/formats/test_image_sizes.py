"""Sizes of absent images, and every format read without images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrqm.data.formats.image_sizes import KnownSizes
from mrqm.data.formats.readers import read_annotations
from mrqm.structures.annotations import DataError

PATHS = [Path("x/a.jpg"), Path("x/b b.jpg")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sizes.csv", "name,width,height\na.jpg,640,480\nb b.jpg, 1000 ,900\n"),
        ("sizes.txt", "a 640 480\n\nb b 1000 900\n"),
        ("sizes.tsv", "a.jpg\t640\t480\nsome/b b.png\t1000\t900\n"),
        (
            "images.json",
            json.dumps(
                {
                    "images": [
                        {"id": 1, "file_name": "/flight/a.jpg", "width": 640, "height": 480},
                        {"id": 2, "file_name": "b b.jpg", "width": 1000, "height": 900},
                    ]
                }
            ),
        ),
    ],
)
def test_lists_of_sizes_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert KnownSizes(tmp_path / name).find(PATHS) == [(480, 640), (900, 1000)]


def test_annotations_come_first_and_headers_last(tmp_path: Path) -> None:
    (tmp_path / "sizes.csv").write_text("b.png,30,20\n")
    images = [tmp_path / f"{stem}.png" for stem in "abc"]
    for image in images:
        Image.new("L", (7, 5)).save(image)
    found = KnownSizes(tmp_path / "sizes.csv").find(images, [(1, 2), None, None])
    assert found == [(1, 2), (20, 30), (5, 7)]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("sizes.csv", "a.jpg,640,480\nb,640\n", r"sizes\.csv:2: cannot read 'b,640'; expected name,width,height"),
        ("sizes.csv", "a.jpg,640,0\n", r"sizes\.csv:1: cannot read"),
        ("sizes.csv", "a.jpg,6.5,7\n", r"sizes\.csv:1: cannot read"),
        ("sizes.json", "[]", r"sizes\.json: expected `images`"),
        ("sizes.json", "{", r"sizes\.json: expected `images`"),
        (
            "sizes.csv",
            "a.jpg,640,480\n",
            r"b b\.jpg: its size is in neither the annotations nor .*sizes\.csv nor the image",
        ),
    ],
)
def test_lists_that_cannot_be_meant_are_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        KnownSizes(tmp_path / name).find(PATHS)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sizes\.csv: no such file"):
        KnownSizes(tmp_path / "sizes.csv")


@pytest.mark.parametrize("data_format", ["visdrone", "yolo", "soda-d"])
def test_every_format_is_read_alike_with_images_and_without(
    data_format: str, squares: Callable[..., Path], tmp_path: Path
) -> None:
    root = squares(images=3, side=96, objects=4)
    folder = root / "val"
    if data_format == "yolo":
        (folder / "annotations").rename(folder / "labels")
        for index, path in enumerate(sorted((folder / "labels").iterdir())):
            path.write_text(f"{index % 2} 0.5 0.25 0.25 0.5\n")
    if data_format == "soda-d":
        (root / "Annotations").mkdir()
        shutil.move(folder / "images", root / "Images")
        images = [{"id": i, "file_name": f"{i}.png", "width": 96, "height": 96} for i in range(3)]
        boxes = [{"image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4]}]
        (root / "Annotations" / "val.json").write_text(json.dumps({"images": images, "annotations": boxes}))
    expected = read_annotations(data_format, folder, ("a", "b")).records  # type: ignore[arg-type]
    shutil.rmtree(root / "Images" if data_format == "soda-d" else folder / "images")
    (root / "sizes.csv").write_text("".join(f"{index}.png,96,96\n" for index in range(3)))
    sizes = KnownSizes(root / "sizes.csv")
    found = read_annotations(data_format, folder, ("a", "b"), sizes).records  # type: ignore[arg-type]
    assert [(r.path.stem, r.image_id, r.size) for r in found] == [(r.path.stem, r.image_id, r.size) for r in expected]
    assert sum(len(record.boxes) for record in found) > 0
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.truth.boxes_xywh, theirs.truth.boxes_xywh)
        np.testing.assert_array_equal(ours.truth.labels, theirs.truth.labels)
