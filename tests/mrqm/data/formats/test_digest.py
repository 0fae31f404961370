from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from mrqm.data.formats.digest import data_digest, file_digest, relative_names
from mrqm.data.formats.visdrone import read_visdrone
from mrqm.structures.annotations import AnnotationSet

from ..conftest import WriteVisDrone

TEXTS = {"a": "10,20,30,5,1,4,0,0\n1,2,3,4,1,10,1,2\n", "b": "5,5,9,9,0,0,0,0"}


def test_place_and_order_play_no_part(write_visdrone: WriteVisDrone, tmp_path: Path) -> None:
    folder = write_visdrone(TEXTS)
    annotations = read_visdrone(folder)
    shutil.copytree(folder, tmp_path / "elsewhere" / "deep")
    (tmp_path / "elsewhere" / "deep" / "annotations" / "a.txt").write_text(
        "".join(reversed(TEXTS["a"].splitlines(keepends=True)))
    )
    moved = read_visdrone(tmp_path / "elsewhere" / "deep")
    backwards = replace(moved, records=moved.records[::-1])
    renumbered = replace(moved, records=tuple(replace(record, image_id=99) for record in moved.records))
    assert len({data_digest(one) for one in (annotations, moved, backwards, renumbered)}) == 1


def test_every_difference_counts(write_visdrone: WriteVisDrone, tmp_path: Path) -> None:
    folder = write_visdrone(TEXTS)
    annotations = read_visdrone(folder)
    first, second = annotations.records
    truth = first.truth
    changed = [
        replace(first, truth=replace(truth, boxes_xywh=truth.boxes_xywh + 0.001)),
        replace(first, truth=replace(truth, labels=truth.labels[::-1])),
        replace(first, truth=replace(truth, areas=truth.areas + 1)),
        replace(first, truth=replace(truth, crowd=~truth.crowd)),
        replace(first, truth=replace(truth, ignored=~truth.ignored)),
        replace(first, truth=truth.take(np.array([0]))),
        replace(first, size=(95, 128)),
    ]
    digests = {data_digest(replace(annotations, records=(one, second))) for one in (first, *changed)}
    digests.add(data_digest(replace(annotations, records=(first,))))
    digests.add(data_digest(AnnotationSet(("other", *annotations.classes[1:]), annotations.records)))
    with (folder / "images" / "a.png").open("ab") as file:
        file.write(b"\0")
    digests.add(data_digest(annotations))
    assert len(digests) == 11


def test_known_contents_need_no_reading(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone(TEXTS)
    annotations = read_visdrone(folder)
    contents = [file_digest(record.path) for record in annotations.records]
    expected = data_digest(annotations)
    shutil.rmtree(folder / "images")
    assert data_digest(annotations, contents) == expected


def test_names_are_below_the_deepest_common_folder(tmp_path: Path) -> None:
    assert relative_names([tmp_path / "x" / "a.png", tmp_path / "x" / "y" / "b.png"]) == ["a.png", "y/b.png"]
    assert relative_names([tmp_path / "x" / ".." / "z" / "a.png"]) == ["a.png"]
