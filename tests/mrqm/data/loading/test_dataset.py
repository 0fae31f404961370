from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_convert

from mrqm.config import Config, make_config
from mrqm.data.augmentation.source import Draw
from mrqm.data.images import decoding as images
from mrqm.data.images.decoding import decode
from mrqm.data.images.windows import window_truth
from mrqm.data.loading.build import build_dataset, read_classes
from mrqm.data.loading.dataset import DetectionDataset, Sample
from mrqm.structures.annotations import DataError, ImageRecord
from mrqm.structures.window import Window

from ..conftest import WriteCoco, WriteVisDrone


def configure(root: Path, seed: int = 0, **data: Any) -> Config:
    values = {"root": root, "train": "train", "val": "val", "augment": {"horizontal_flip": 0.0}, "loader_workers": 0}
    return make_config({"data": values | data, "train": {"seed": seed}})


def build(folder: Path, **data: Any) -> DetectionDataset:
    return build_dataset(configure(folder.parent, **data), "train" if folder.name == "train" else "val")


def read(dataset: DetectionDataset, index: int | tuple[int, int]) -> Sample:
    sample = dataset[index]
    assert sample is not None
    return sample


def pixels_of(target: Mapping[str, torch.Tensor], key: str = "boxes") -> list[list[float]]:
    """Convert a target's boxes to xyxy px of the network's input."""
    scale = target["size"][[1, 0, 1, 0]]
    return (box_convert(target[key], "cxcywh", "xyxy") * scale).round(decimals=3).tolist()


ROW = "20,30,40,10,1,4,0,0\n"


def test_a_target_has_the_vocabularys_shapes_and_types(write_visdrone: WriteVisDrone) -> None:
    image, target = read(build(write_visdrone({"a": f"{ROW}1,1,9,9,0,0,0,0"})), 0)
    assert (image.shape, image.dtype) == ((3, 96, 128), torch.uint8)
    shapes = {key: (tuple(value.shape), value.dtype) for key, value in target.items()}
    assert shapes == {
        "boxes": ((1, 4), torch.float32),
        "labels": ((1,), torch.int64),
        "ignore_boxes": ((1, 4), torch.float32),
        "ignore_labels": ((1,), torch.int64),
        "image_id": ((), torch.int64),
        "orig_size": ((2,), torch.int64),
        "size": ((2,), torch.int64),
    }


def test_boxes_are_normalised_centres_and_sizes(write_visdrone: WriteVisDrone) -> None:
    _, target = read(build(write_visdrone({"a": ROW})), 0)
    np.testing.assert_allclose(target["boxes"], [[40 / 128, 35 / 96, 40 / 128, 10 / 96]], rtol=1e-6)
    assert target["labels"].tolist() == [3]


def test_an_image_without_objects_has_empty_targets(write_visdrone: WriteVisDrone) -> None:
    _, target = read(build(write_visdrone({"a": "", "b": ROW})), 0)
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)
    assert target["ignore_boxes"].shape == (0, 4)


def test_scaled_images_keep_their_native_size_in_the_target(write_visdrone: WriteVisDrone) -> None:
    image, target = read(build(write_visdrone({"a": ROW}, size=(97, 131)), scale=0.5), 0)
    assert image.shape == (3, 48, 66)
    assert target["size"].tolist() == [48, 66]
    assert target["orig_size"].tolist() == [97, 131]
    np.testing.assert_allclose(target["boxes"], [[40 / 131, 35 / 97, 40 / 131, 10 / 97]], rtol=1e-5)


def test_tiles_cover_native_px_and_clip_their_boxes(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": "50,10,20,10,1,4,0,0\n"}, split="val", size=(96, 128))
    dataset = build(folder, scale=0.5, tile={"size": 32, "overlap": 0, "min_area_ratio": 0.4})
    left, right = read(dataset, 0), read(dataset, 1)
    assert left[1]["orig_size"].tolist() == [64, 64]
    assert pixels_of(left[1]) == [[25, 5, 32, 10]]
    assert pixels_of(right[1]) == []
    assert pixels_of(right[1], "ignore_boxes") == [[0, 5, 3, 10]]  # 30 % of the object
    assert right[1]["ignore_labels"].tolist() == [3]
    assert (left[0][0, 5:10, 25:32] > 145).all()
    assert (right[0][0, 5:10, 0:3] > 145).all()


def test_ignored_regions_are_clipped_to_their_tiles_whatever_is_visible(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": "31,0,90,90,0,0,0,0\n2,2,9,9,1,4,0,0"}, split="val")
    dataset = build(folder, tile={"size": 32, "overlap": 0})
    assert pixels_of(read(dataset, 0)[1], "ignore_boxes") == [[31, 0, 32, 32]]
    assert pixels_of(read(dataset, 1)[1], "ignore_boxes") == [[0, 0, 32, 32]]


def test_ignored_regions_are_blackened_when_asked_except_under_objects(write_visdrone: WriteVisDrone) -> None:
    text = "10,10,20,20,0,0,0,0\n20,20,20,20,1,4,0,0\n50,50,10,10,0,11,0,0"
    folder = write_visdrone({"a": text}, split="val")
    tile = {"size": 64, "overlap": 0}
    image, _ = read(build(folder, tile=tile | {"blackout_ignored": True}), 0)
    assert (image[:, 10:20, 10:30] == 0).all()
    assert (image[0, 20:40, 20:40] > 145).all()
    image[:, 10:30, 10:20], image[:, 10:20, 20:30] = 0, 0
    plain, _ = read(build(folder, tile=tile), 0)
    assert (plain[:, 10:20, 10:20] > 0).all()
    plain[:, 10:30, 10:20], plain[:, 10:20, 20:30] = 0, 0
    assert torch.equal(image, plain)


def test_an_item_as_an_image_of_its_own_has_the_targets_boxes(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": "47,10,20,10,1,4,0,0\n1,1,9,9,1,4,0,0\n40,0,70,60,0,0,0,0"}, split="val")
    dataset = build(folder, scale=0.75, tile={"size": 40, "overlap": 8, "min_area_ratio": 0.4})
    seen = 0
    for index, item in enumerate(dataset.items):
        truth = window_truth(item, 0.4, (item.window.height, item.window.width))
        record = ImageRecord(Path("tile.png"), index, (40, 40), truth)
        _, target = read(dataset, index)
        np.testing.assert_allclose(record.boxes.reshape(-1, 4), np.reshape(pixels_of(target), (-1, 4)), atol=2e-3)
        np.testing.assert_allclose(
            record.ignore_boxes, np.reshape(pixels_of(target, "ignore_boxes"), (-1, 4)), atol=2e-3
        )
        assert record.labels.tolist() == target["labels"].tolist()
        assert record.ignore_labels.tolist() == target["ignore_labels"].tolist()
        seen += len(record.ignore_boxes)
    assert seen > 2


def test_training_drops_empty_tiles_and_evaluation_keeps_them(write_visdrone: WriteVisDrone) -> None:
    tile = {"size": 32, "overlap": 0}
    assert len(build(write_visdrone({"a": "2,2,9,9,1,4,0,0"}), tile=tile)) == 1
    assert len(build(write_visdrone({"a": "2,2,9,9,1,4,0,0"}, split="val"), tile=tile)) == 12
    assert len(build(write_visdrone({"a": "2,2,9,9,1,4,0,0"}), tile=tile | {"empty_fraction": 1.0})) == 12


def test_every_item_has_its_own_image_id(write_visdrone: WriteVisDrone) -> None:
    dataset = build(write_visdrone({"a": ROW, "b": ROW}, split="val"), tile={"size": 64, "overlap": 0})
    assert [int(read(dataset, index)[1]["image_id"]) for index in range(len(dataset))] == list(range(8))


def cut_naively(box: Sequence[float], window: Window, mirrored: bool) -> tuple[list[float], float]:
    """Clip a box to a window, in px of its tile, and compute the remaining fraction of its area."""
    left, top, width, height = window
    x0, x1 = (min(max(float(x) - left, 0), width) for x in (box[0], box[2]))
    y0, y1 = (min(max(float(y) - top, 0), height) for y in (box[1], box[3]))
    share = (x1 - x0) * (y1 - y0) / float((box[2] - box[0]) * (box[3] - box[1]))
    return [width - x1, y0, width - x0, y1] if mirrored else [x0, y0, x1, y1], share


@pytest.mark.parametrize("mirrored", [False, True])
def test_tiles_are_what_each_box_by_itself_and_the_whole_image_say(
    write_visdrone: WriteVisDrone, mirrored: bool
) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers((0, 0, 1, 1, 0), (280, 180, 60, 40, 12), (90, 5))
    folder = write_visdrone(
        {"a": "\n".join(f"{x},{y},{w},{h},1,{c},0,0" for x, y, w, h, c in numbers)}, size=(190, 290)
    )
    noise = rng.integers(0, 255, (190, 290, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "images" / "a.png")
    tile = {"size": 64, "overlap": 20, "min_area_ratio": 0.4}
    dataset = build(folder, tile=tile, augment={"horizontal_flip": float(mirrored)})
    record = dataset.annotations.records[0]
    labels = [*record.labels, *record.ignore_labels]
    for index, item in enumerate(dataset.items):
        image, target = read(dataset, (0, index))
        left, top, width, height = item.window
        pixels = noise[top : top + height, left : left + width]
        np.testing.assert_array_equal(image.permute(1, 2, 0), pixels[:, ::-1] if mirrored else pixels)
        boxes = [cut_naively(box, item.window, mirrored) for box in (*record.boxes, *record.ignore_boxes)]
        objects = [number for number in range(len(record.boxes)) if boxes[number][1] > 0.4]
        ignored = [number for number, (_, share) in enumerate(boxes) if share > 0 and number not in objects]
        for kind, chosen in (("", objects), ("ignore_", ignored)):
            assert pixels_of(target, f"{kind}boxes") == [boxes[number][0] for number in chosen]
            assert target[f"{kind}labels"].tolist() == [labels[number] for number in chosen]


def test_pools_hold_as_many_images_as_the_cache(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone(dict.fromkeys("ab", "50,50,300,300,1,4,0,0"), size=(400, 400))  # 0.46 MiB each
    tile = {"size": 300, "overlap": 200}  # columns at 0 and 100: 0.69 MiB
    assert build(folder, cache_mb=1).image_pools()[1] == 2
    assert build(folder, cache_mb=1, tile=tile).image_pools()[1] == 1
    augment = {"random_crop": True}  # leaves the grid: whole images are kept
    assert build(folder, cache_mb=1, tile=tile, augment=augment).image_pools()[1] == 2


AUGMENT = {"horizontal_flip": 0.5, "scale_jitter": (0.6, 1.6), "random_crop": True, "color_jitter": 0.4}
AUGMENT_WHOLE = AUGMENT | {"random_crop": False}


@pytest.mark.parametrize("tile", [None, {"size": 64, "overlap": 16, "min_area_ratio": 0.0}])
def test_augmented_boxes_lie_on_their_objects(write_visdrone: WriteVisDrone, tile: dict[str, Any] | None) -> None:
    augment = AUGMENT | {"color_jitter": 0.0, "random_crop": tile is not None}
    dataset = build(write_visdrone({"a": "50,40,24,16,1,4,0,0"}), tile=tile, augment=augment)
    seen = 0
    for epoch in range(40):
        image, target = read(dataset, (epoch, 0))
        for left, top, right, bottom in pixels_of(target):
            if right - left > 4 and bottom - top > 4:
                inside = image[0, round(top) + 1 : round(bottom) - 1, round(left) + 1 : round(right) - 1]
                assert (inside > 145).all()
                seen += 1
        assert not (image[0] > 145).any() or len(target["boxes"])
    assert seen > 20


def test_augmentation_moves_ignored_regions_along(write_visdrone: WriteVisDrone) -> None:
    text = "50,40,24,16,1,4,0,0\n50,40,24,16,0,0,0,0"
    dataset = build(
        write_visdrone({"a": text}), tile={"size": 64, "min_area_ratio": 0.0, "overlap": 0}, augment=AUGMENT
    )
    for epoch in range(20):
        _, target = read(dataset, (epoch, 0))
        np.testing.assert_allclose(target["boxes"], target["ignore_boxes"])


def test_augmentation_depends_on_seed_epoch_and_index_alone(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": ROW, "b": ROW})
    first, second = build(folder, augment=AUGMENT_WHOLE), build(folder, augment=AUGMENT_WHOLE)
    _ = torch.rand(3), second[0, 1], second[1, 0]
    image, target = read(first, (3, 0))
    again, same = read(second, (3, 0))
    assert torch.equal(image, again)
    assert all(torch.equal(target[key], same[key]) for key in target)
    different = [
        read(second, (4, 0))[0],
        read(second, (3, 1))[0],
        read(build(folder, seed=1, augment=AUGMENT_WHOLE), (3, 0))[0],
    ]
    assert not any(other.shape == image.shape and torch.equal(other, image) for other in different)


EVERYTHING: dict[str, Any] = {
    "horizontal_flip": 0.5, "vertical_flip": 0.5, "quarter_turns": 0.5, "scale_jitter": (0.8, 1.25),
    "color_jitter": 0.3, "grayscale": 0.3, "blur": 0.3, "noise": 0.3, "jpeg": 0.3, "mosaic": 0.6, "mixup": 0.3,
    "copy_paste": {"probability": 0.7, "scale_jitter": (0.8, 1.25)},
}  # fmt: skip
OBJECTS = "20,30,40,10,1,4,0,0\n80,20,12,10,1,2,0,0\n60,70,9,9,1,3,0,0\n100,60,20,30,0,0,0,0\n"


def test_every_augmentation_depends_on_seed_epoch_and_index_alone(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone(dict.fromkeys("abcdefgh", OBJECTS))
    fresh, used = (build(folder, augment=EVERYTHING, cache_mb=size) for size in (512, 0))
    rng = np.random.default_rng(0)
    for epoch, index in rng.permutation([(epoch, index) for epoch in (0, 3) for index in range(8)]).tolist():
        read(used, (epoch, index))
    different = set()
    for index in range(8):
        image, target = read(fresh, (3, index))
        again, same = read(used, (3, index))
        assert torch.equal(image, again)
        assert all(torch.equal(target[key], same[key]) for key in target)
        different.add(image.numpy().tobytes())
    assert len(different) == 8


def test_the_final_part_of_a_training_shows_single_images(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone(dict.fromkeys("abcd", OBJECTS))
    strong = dict.fromkeys(("mosaic", "mixup", "grayscale", "blur", "noise", "jpeg"), 1)
    dataset = build(folder, augment=strong | {"horizontal_flip": 1.0, "copy_paste": {"probability": 1}})
    plain, _ = read(dataset, 2)
    assert not torch.equal(read(dataset, (0, 2))[0], plain.flip(2))
    image, target = read(dataset, Draw(0, 2, final=True))
    assert torch.equal(image, plain.flip(2))
    assert len(target["boxes"]) == 3


def test_a_turned_image_has_its_sides_exchanged(write_visdrone: WriteVisDrone) -> None:
    dataset = build(write_visdrone(dict.fromkeys("abcd", ROW)), augment={"quarter_turns": 1.0, "horizontal_flip": 0})
    shapes = {tuple(read(dataset, (epoch, 0))[1]["size"].tolist()) for epoch in range(10)}
    assert shapes == {(96, 128), (128, 96)}


def test_a_training_without_an_object_to_copy_is_refused(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": "10,10,100,80,1,4,0,0\n5,5,20,20,0,0,0,0"})
    with pytest.raises(DataError, match=r"train: no object can be copied: .*data\.augment\.copy_paste\.probability=0"):
        build(folder, augment={"copy_paste": {"probability": 0.1}})


def test_images_that_do_not_decode_are_replaced_in_every_augmentation(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone(dict.fromkeys("abcdef", OBJECTS), suffix=".jpg")
    for name in "bd":
        truncate(folder / "images" / f"{name}.jpg")
    dataset = build(folder, max_unreadable=2, augment=EVERYTHING | {"mosaic": 1, "mixup": 1})
    taken = {int(read(dataset, (epoch, index))[1]["image_id"]) for epoch in range(4) for index in range(6)}
    assert taken == {0, 2, 4, 5}


def test_validation_is_not_augmented(write_visdrone: WriteVisDrone) -> None:
    dataset = build(write_visdrone({"a": ROW}, split="val"), augment=AUGMENT_WHOLE)
    assert torch.equal(read(dataset, (5, 0))[0], read(dataset, 0)[0])


def test_a_plain_index_is_not_augmented(write_visdrone: WriteVisDrone) -> None:
    dataset = build(write_visdrone({"a": ROW}), augment=AUGMENT_WHOLE)
    assert pixels_of(read(dataset, 0)[1]) == [[20, 30, 60, 40]]


def test_two_thousand_objects_in_one_image(write_visdrone: WriteVisDrone) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{x},{y},6,5,1,{c},0,0" for x, y, c in rng.integers((0, 0, 1), (790, 790, 11), (2000, 3))]
    dataset = build(write_visdrone({"a": "\n".join(rows)}, size=(800, 800)), augment=AUGMENT_WHOLE)
    _, target = read(dataset, 0)
    assert target["boxes"].shape == (2000, 4)
    assert len(read(dataset, (0, 0))[1]["labels"]) == 2000


def test_objects_are_counted_as_the_targets_hold_them(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": "50,10,20,10,1,4,0,0\n1,1,9,9,1,4,0,0\n1,1,9,9,0,0,0,0", "b": ""}, split="val")
    dataset = build(folder, tile={"size": 64, "overlap": 0, "min_area_ratio": 0.4})
    assert len(dataset) == 8
    assert [dataset.count_objects(index) for index in range(8)] == [
        len(read(dataset, index)[1]["boxes"]) for index in range(8)
    ]
    assert dataset.count_objects(0) == 2


def test_counts_are_described(write_visdrone: WriteVisDrone) -> None:
    dataset = build(write_visdrone({"a": f"{ROW}{ROW}1,1,9,9,0,0,0,0", "b": ""}))
    assert dataset.describe() == {"images": 2, "items": 2, "objects": 2, "ignored_regions": 1}


# ------------------------------------------------------------------------------------------- unreadable images


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def test_an_unreadable_image_stops_by_default(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": ROW, "b": ROW}, suffix=".jpg")
    truncate(folder / "images" / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: the image does not decode.*data\.max_unreadable=0"):
        build(folder)[0]


def test_a_tolerated_image_is_named_and_left_out_of_evaluation(
    write_visdrone: WriteVisDrone, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_visdrone({"a": ROW, "b": ROW}, suffix=".jpg", split="val")
    truncate(folder / "images" / "a.jpg")
    dataset = build(folder, max_unreadable=1)
    with caplog.at_level(logging.WARNING):
        assert dataset[0] is None
        assert dataset[0] is None
    assert [record.message.count("a.jpg") for record in caplog.records] == [1]


def test_training_takes_another_item_for_a_tolerated_image(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": ROW, "b": ROW, "c": ROW}, suffix=".jpg")
    truncate(folder / "images" / "a.jpg")
    dataset = build(folder, max_unreadable=1)
    taken = [int(read(dataset, (epoch, 0))[1]["image_id"]) for epoch in range(10)]
    assert set(taken) == {1, 2}
    assert taken == [int(read(build(folder, max_unreadable=1), (epoch, 0))[1]["image_id"]) for epoch in range(10)]


def test_more_unreadable_images_than_tolerated_stop(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": ROW, "b": ROW, "c": ROW}, suffix=".jpg", split="val")
    for name in "ab":
        truncate(folder / "images" / f"{name}.jpg")
    dataset = build(folder, max_unreadable=1)
    assert dataset[0] is None
    with pytest.raises(DataError, match=r"b\.jpg.*2 unreadable images are more than data\.max_unreadable=1"):
        dataset[1]


def test_images_without_readable_header_count_as_unreadable(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": ROW, "b": ROW})
    (folder / "images" / "a.png").write_text("not an image")
    with pytest.raises(DataError, match=r"a\.png: the image does not decode"):
        build(folder)
    assert len(build(folder, max_unreadable=1)) == 1


def test_a_training_without_any_image_that_decodes_ends(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": ROW}, suffix=".jpg")
    truncate(folder / "images" / "a.jpg")
    with pytest.raises(DataError, match="no image is left that decodes"):
        build(folder, max_unreadable=5)[0, 0]


# --------------------------------------------------------------------------------------------- whole data sets


def test_data_without_objects_is_refused(write_visdrone: WriteVisDrone) -> None:
    with pytest.raises(DataError, match="no object in 2 images"):
        build(write_visdrone({"a": "", "b": "1,1,9,9,0,0,0,0"}))


def test_tiles_that_show_no_object_are_refused(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone({"a": "0,0,128,96,1,4,0,0"})
    with pytest.raises(DataError, match=r"no window shows .*data\.tile\.size=16 at data\.scale=1"):
        build(folder, tile={"size": 16, "overlap": 0})


def test_visdrone_names_its_classes(tmp_path: Path) -> None:
    assert read_classes(configure(tmp_path))[:2] == ("pedestrian", "people")
    assert read_classes(configure(tmp_path, classes=["car"])) == ("car",)


def test_validation_has_the_labels_of_training(write_coco: WriteCoco) -> None:
    boat, buoy = ({"image_id": 5, "category_id": number, "bbox": [1, 1, 9, 9]} for number in (1, 3))
    train, val = write_coco([boat, buoy]), write_coco([buoy], split="val")
    assert build(train, format="coco").classes == ("boat", "buoy")
    dataset = build(val, format="coco")
    assert dataset.classes == ("boat", "buoy")
    assert read(dataset, 0)[1]["labels"].tolist() == [1]


def test_every_format_trains_directly(write_visdrone: WriteVisDrone, tmp_path: Path) -> None:
    folder = write_visdrone({"a": ""})
    (folder / "labels").mkdir()
    (folder / "labels" / "a.txt").write_text("1 0.5 0.5 0.25 0.25")
    (tmp_path / "data.yaml").write_text("names: [boat, buoy]")
    (tmp_path / "Images").symlink_to(folder / "images")
    (tmp_path / "Annotations").mkdir()
    box = {"image_id": 1, "category_id": 9, "bbox": [48, 36, 32, 24], "ignore": 0}
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [box], "categories": []}
    (tmp_path / "Annotations" / "train.json").write_text(json.dumps(content))
    yolo, soda = build(folder, format="yolo"), build(folder, format="soda-d")
    assert (yolo.classes, soda.classes[8]) == (("boat", "buoy"), "warning-cone")
    assert pixels_of(read(yolo, 0)[1]) == pixels_of(read(soda, 0)[1]) == [[48, 36, 80, 60]]


def test_tiles_of_a_real_image_are_cut_from_one_decoding(visdrone_mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"root": visdrone_mini, "scale": 0.5, "tile": {"size": 160, "overlap": 32}, "augment": AUGMENT}
    dataset = build_dataset(make_config({"data": values}), "val")
    decoded = []
    monkeypatch.setattr(images, "decode", lambda path, size: decoded.append(path) or decode(path, size))
    for index in range(4):
        image, target = read(dataset, index)
        assert image.shape == (3, 160, 160)
        assert target["orig_size"].tolist() == [320, 320]
    assert len(decoded) == 1
