from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from mrqm.data.formats import writer as prepared
from mrqm.data.formats.coco import read_coco
from mrqm.data.formats.digest import data_digest
from mrqm.data.formats.writer import ANNOTATIONS, ImageJob, WrittenImage, run_job, write_annotations
from mrqm.data.images.decoding import decode
from mrqm.data.images.windows import Item, window_truth
from mrqm.structures.annotations import IGNORED_REGION, OTHER_OBJECT, AnnotationSet, DataError, ImageRecord
from mrqm.structures.ground_truth import GroundTruth, make_ground_truth
from mrqm.structures.window import Window

CLASSES = ("car", "others")  # one is called like the category of objects without class


@pytest.fixture
def annotations(tmp_path: Path, painted: Callable[..., NDArray[np.uint8]]) -> AnnotationSet:
    """Two images of 96×128 px with odd coordinates and every kind of ignored box."""
    rng = np.random.default_rng(0)
    records = []
    (tmp_path / "source").mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(tmp_path / "source" / name)
        corners = rng.uniform(0, 60, (9, 2))
        boxes = np.concatenate([corners, rng.uniform(0.1, 30, (9, 2))], axis=1)
        labels = np.array([0, 1, 1, 0, IGNORED_REGION, OTHER_OBJECT, 0, 1, 0])
        truth = make_ground_truth(
            boxes,
            labels,
            areas=rng.uniform(1, 99, 9),
            crowd=np.arange(9) == 6,
            ignored=np.isin(np.arange(9), (7, 8)),
        )
        records.append(ImageRecord(tmp_path / "source" / name, 7 * number, (96, 128), truth))
    return AnnotationSet(CLASSES, tuple(records))


def convert(annotations: AnnotationSet, folder: Path) -> None:
    images = []
    for record in annotations.records:
        target = replace(record, path=folder / "images" / record.path.name)
        images.append(WrittenImage(record.path.name, target))
        assert run_job(ImageJob(record.path, record.size, (images[-1],))).error == ""
    write_annotations(folder, annotations.classes, images)


def assert_same(first: ImageRecord, second: ImageRecord) -> None:
    assert (first.image_id, first.size) == (second.image_id, second.size)
    for field in fields(GroundTruth):
        before, after = getattr(first.truth, field.name), getattr(second.truth, field.name)
        np.testing.assert_array_equal(before, after, err_msg=field.name)


def test_what_is_written_reads_back_exactly(annotations: AnnotationSet, tmp_path: Path) -> None:
    convert(annotations, tmp_path / "new")
    again = read_coco(tmp_path / "new")
    assert again.classes == CLASSES
    for before, after in zip(annotations.records, again.records, strict=True):
        assert_same(before, after)
    assert again.repairs.log == []
    assert data_digest(again) == data_digest(annotations)


def test_boxes_that_training_repairs_are_written_as_annotated(annotations: AnnotationSet, tmp_path: Path) -> None:
    first, *others = annotations.records
    odd = first.truth.boxes_xywh.copy()
    odd[:3] = [[-5.25, 2, 20, 10], [500, 2, 20, 10], [7, 2, 0, 10]]
    records = (replace(first, truth=replace(first.truth, boxes_xywh=odd)), *others)
    odd_set = replace(annotations, records=records)
    convert(odd_set, tmp_path / "new")
    again = read_coco(tmp_path / "new")
    np.testing.assert_array_equal(again.records[0].truth.boxes_xywh, odd)
    assert data_digest(again) == data_digest(odd_set)


def test_pycocotools_reads_it_and_ignores_what_is_ignored(annotations: AnnotationSet, tmp_path: Path) -> None:
    convert(annotations, tmp_path / "new")
    coco = COCO(tmp_path / "new" / ANNOTATIONS)
    assert len(coco.getAnnIds(iscrowd=False)) == 12
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == [*CLASSES, "ignored region", "others"]
    crowds = coco.loadAnns(coco.getAnnIds(iscrowd=True))
    assert sorted(entry["category_id"] for entry in crowds) == [1, 1, 3, 3, 4, 4]


def test_images_are_linked_not_copied_where_that_can_be(annotations: AnnotationSet, tmp_path: Path) -> None:
    convert(annotations, tmp_path / "new")
    assert (tmp_path / "new" / "images" / "a.png").samefile(annotations.records[0].path)


def test_images_are_copied_where_links_cannot_be(
    annotations: AnnotationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(prepared.os, "link", refuse)
    convert(annotations, tmp_path / "new")
    copy, source = tmp_path / "new" / "images" / "a.png", annotations.records[0].path
    assert not copy.samefile(source)
    assert copy.read_bytes() == source.read_bytes()


def test_a_folder_without_annotations_does_not_look_like_a_data_set(annotations: AnnotationSet, tmp_path: Path) -> None:
    convert(annotations, tmp_path / "new")
    (tmp_path / "new" / ANNOTATIONS).unlink()
    with pytest.raises(DataError, match="found none"):
        read_coco(tmp_path / "new")


def test_tiles_are_cut_blackened_and_know_where_they_come_from(annotations: AnnotationSet, tmp_path: Path) -> None:
    record = annotations.records[1]
    folder = tmp_path / "new"
    images = []
    for number, window in enumerate((Window(0, 0, 64, 64), Window(64, 32, 64, 64), Window(0, 0, 128, 96))):
        item, name = Item(record, (96, 128), window), f"b{number}.png"
        truth = window_truth(item, 0.4, (window.height, window.width))
        tile = ImageRecord(folder / "images" / name, number + 1, (100, 130), truth)
        images.append(WrittenImage(name, tile, item))
    assert run_job(ImageJob(record.path, record.size, tuple(images), blackout_ignored=True)).error == ""
    write_annotations(folder, CLASSES, images)
    expected = decode(record.path, record.size)
    region = record.ignore_boxes[0]
    for y in range(96):
        for x in range(128):
            covered = [b[0] < x + 1 and x < b[2] and b[1] < y + 1 and y < b[3] for b in (region, *record.boxes)]
            if covered[0] and not any(covered[1:]):
                expected[y, x] = 0
    for image, after in zip(images, read_coco(folder).records, strict=True):
        assert_same(image.record, after)
        assert image.item is not None
        left, top, width, height = image.item.window
        pixels = np.asarray(Image.open(after.path))
        np.testing.assert_array_equal(pixels[:height, :width], expected[top : top + height, left : left + width])
        assert pixels[height:].sum() + pixels[:, width:].sum() == 0
    entry = json.loads((folder / ANNOTATIONS).read_text())["images"][1]
    assert (entry["ori_id"], entry["start_coord"]) == (7, [64, 32])


def test_an_image_that_does_not_decode_is_reported_and_nothing_is_written(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    source = tmp_path / "a.jpg"
    Image.fromarray(noise).save(source)
    source.write_bytes(source.read_bytes()[:2000])
    truth = make_ground_truth(np.zeros((0, 4)), np.zeros(0, np.int64))
    target = ImageRecord(tmp_path / "new" / "a.jpg", 0, (64, 64), truth)
    outcome = run_job(ImageJob(source, (64, 64), (WrittenImage("a.jpg", target),)))
    assert f"{source}: the image does not decode" in outcome.error
    assert not (tmp_path / "new").exists()
