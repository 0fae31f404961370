from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mrqm.data.formats.coco import read_coco, read_coco_classes
from mrqm.structures.annotations import DataError, Repairs

from ..conftest import WriteCoco


def annotation(
    image_id: int = 5, category_id: int = 1, bbox: object = (10, 20, 30, 5), **more: object
) -> dict[str, object]:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, **more}


def test_annotations_become_boxes_and_labels_without_gaps(write_coco: WriteCoco) -> None:
    annotations = read_coco(write_coco([annotation(), annotation(9, 3, (1.5, 2, 3, 4)), annotation(9, 1)]))
    assert annotations.classes == ("boat", "buoy")
    first, second = annotations.records
    assert (first.image_id, first.size) == (5, (96, 128))
    np.testing.assert_array_equal(first.boxes, [[10, 20, 40, 25]])
    np.testing.assert_array_equal(second.boxes, [[1.5, 2, 4.5, 6], [10, 20, 40, 25]])
    assert second.labels.tolist() == [1, 0]


def test_an_image_without_annotations_has_no_objects(write_coco: WriteCoco) -> None:
    record = read_coco(write_coco([annotation()])).records[1]
    assert record.boxes.shape == (0, 4)
    assert record.ignore_boxes.shape == (0, 4)


def test_crowds_are_ignored_regions(write_coco: WriteCoco) -> None:
    record = read_coco(write_coco([annotation(), annotation(bbox=(1, 1, 50, 50), iscrowd=1)])).records[0]
    np.testing.assert_array_equal(record.boxes, [[10, 20, 40, 25]])
    np.testing.assert_array_equal(record.ignore_boxes, [[1, 1, 51, 51]])
    assert record.ignore_labels.tolist() == record.labels.tolist()


def test_categories_without_annotations_are_no_classes(write_coco: WriteCoco) -> None:
    categories = [{"id": 0, "name": "things"}, {"id": 4, "name": "boat"}]
    folder = write_coco([annotation(category_id=4)], categories)
    assert read_coco(folder).classes == ("boat",)
    assert read_coco_classes(folder) == ("boat",)


def test_categories_of_one_name_are_one_class(write_coco: WriteCoco) -> None:
    categories = [{"id": 0, "name": "boat"}, {"id": 1, "name": "boat"}]
    annotations = read_coco(write_coco([annotation(category_id=0), annotation(category_id=1)], categories))
    assert annotations.classes == ("boat",)
    assert annotations.records[0].labels.tolist() == [0, 0]


def test_given_classes_fix_the_labels(write_coco: WriteCoco) -> None:
    folder = write_coco([annotation(category_id=3)])
    assert read_coco(folder, ("buoy", "boat")).records[0].labels.tolist() == [0]
    assert read_coco(folder, ("boat", "buoy")).records[0].labels.tolist() == [1]


def test_a_class_that_the_file_does_not_know_is_named(write_coco: WriteCoco) -> None:
    with pytest.raises(DataError, match=r"no category named ship: .*'ship', 'boat'.*'boat', 'buoy'"):
        read_coco(write_coco([annotation()]), ("ship", "boat"))


def test_a_category_that_is_not_among_the_classes_is_named(write_coco: WriteCoco) -> None:
    with pytest.raises(DataError, match=r"annotations\.1 has category 3 \(buoy\), which is not among data\.classes"):
        read_coco(write_coco([annotation(), annotation(category_id=3)]), ("boat",))


def test_a_category_that_is_not_listed_is_named(write_coco: WriteCoco) -> None:
    with pytest.raises(DataError, match=r"annotations\.1 has category 8 \(not listed in categories\)"):
        read_coco(write_coco([annotation(), annotation(category_id=8)]))


def test_an_annotation_of_an_image_that_is_not_listed_is_named(write_coco: WriteCoco) -> None:
    with pytest.raises(DataError, match=r"annotations\.0 is of image 77, which is not listed"):
        read_coco(write_coco([annotation(image_id=77)]))


def test_boxes_are_repaired_and_counted(write_coco: WriteCoco) -> None:
    boxes = [(10, 10, 0, 5), (120, 90, 20, 20), (-50, 0, 20, 20), (1, 1, 2, 2)]
    annotations = read_coco(write_coco([annotation(bbox=box) for box in boxes]))
    np.testing.assert_array_equal(annotations.records[0].boxes, [[120, 90, 128, 96], [1, 1, 3, 3]])
    assert annotations.repairs == Repairs(degenerate=1, outside=1, clipped=1)


def test_scores_take_annotations_as_they_are_written_and_in_their_order(write_coco: WriteCoco) -> None:
    boxes = [(10.1, 10, 0, 5), (-5, 0.7, 20, 20.3), (500, 1, 2, 2), (1, 1, 3, 3)]
    extra = [{"area": 3.5}, {"iscrowd": 1}, {"ignore": 1}, {}]
    rows = [annotation(bbox=box) | more for box, more in zip(boxes, extra, strict=True)]
    annotations = read_coco(write_coco(rows))
    truth = annotations.records[0].truth
    np.testing.assert_array_equal(truth.boxes_xywh, boxes)
    assert truth.areas[[0, 3]].tolist() == [3.5, 9]
    assert (truth.crowd.tolist(), truth.ignored.tolist()) == ([False, True, False, False], [False, False, True, False])
    assert annotations.repairs.scored == [
        "_annotations.coco.json: 3 annotations have no `area`; the area of their box is used"
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "Invalid JSON"),
        ("[]", "file: "),
        ('{"images": [{"id": 1, "file_name": "a.png"}]}', "annotations: Field required"),
        ('{"images": [{"id": 1, "file_name": "a.png"}], "annotations": []}', "lists no categories"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
        (
            '{"images": [{"id": 1, "file_name": "a.png"}], "categories": [], '
            '"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3]}]}',
            r"annotations\.0\.bbox\.3: Field required",
        ),
    ],
)
def test_a_file_that_is_not_coco_is_named_with_the_place(tmp_path: Path, content: str, fault: str) -> None:
    (tmp_path / "annotations.json").write_text(content)
    with pytest.raises(DataError, match=rf"annotations\.json: .*{fault}"):
        read_coco(tmp_path)


def test_images_that_share_an_id_are_refused(write_coco: WriteCoco) -> None:
    images = [{"id": 5, "file_name": "a.png"}, {"id": 5, "file_name": "b.png"}]
    with pytest.raises(DataError, match="several images share an id"):
        read_coco(write_coco([annotation()], images=images))


def test_missing_images_are_counted_and_the_first_named(write_coco: WriteCoco) -> None:
    folder = write_coco([annotation()])
    (folder / "b.png").unlink()
    with pytest.raises(DataError, match=r"listed images that are not there: 1 of them, first .*b\.png"):
        read_coco(folder)


def test_an_image_of_another_size_than_the_file_says_is_refused(write_coco: WriteCoco) -> None:
    images = [{"id": 5, "file_name": "a.png", "width": 1280, "height": 960}]
    with pytest.raises(DataError, match=r"a\.png is 1280×960 px, but the image is 128×96 px"):
        read_coco(write_coco([annotation()], images=images))


@pytest.mark.parametrize("name", ["_annotations.coco.json", "annotations.json", "instances_2024.json"])
def test_the_json_is_found_by_name_or_by_being_alone(write_coco: WriteCoco, name: str) -> None:
    assert len(read_coco(write_coco([annotation()], json_name=name)).records) == 2


def test_several_unknown_json_files_are_listed(write_coco: WriteCoco) -> None:
    folder = write_coco([annotation()], json_name="one.json")
    (folder / "two.json").write_text("{}")
    with pytest.raises(DataError, match=r"found one\.json, two\.json"):
        read_coco(folder)


def test_a_folder_without_json_or_no_folder_at_all_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found none"):
        read_coco(tmp_path)
    with pytest.raises(DataError, match="absent: no such folder"):
        read_coco(tmp_path / "absent")


def test_images_may_lie_in_a_folder_of_their_own(write_coco: WriteCoco) -> None:
    folder = write_coco([annotation()], images_folder="images")
    assert read_coco(folder).records[0].path == folder / "images" / "a.png"


def test_an_image_without_readable_header_has_no_record(write_coco: WriteCoco) -> None:
    folder = write_coco([annotation()])
    (folder / "a.png").write_text("not an image")
    annotations = read_coco(folder)
    assert [record.image_id for record in annotations.records] == [9]
    assert annotations.unreadable == (folder / "a.png",)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_real_exports_read_as_a_naive_count_says(coco_river_people: Path, split: str) -> None:
    content = json.loads((coco_river_people / split / "_annotations.coco.json").read_text())
    annotations = read_coco(coco_river_people / split)
    assert annotations.classes == ("person",)
    assert len(annotations.records) == len(content["images"])
    for record in annotations.records:
        of_image = [entry["bbox"] for entry in content["annotations"] if entry["image_id"] == record.image_id]
        assert len(record.boxes) == len(of_image)
        for box, (left, top, width, height) in zip(record.boxes, of_image, strict=True):
            np.testing.assert_allclose(box, [left, top, min(left + width, 640), min(top + height, 640)], rtol=1e-5)


def test_a_coordinate_that_is_no_number_is_named(write_coco: WriteCoco) -> None:
    with pytest.raises(DataError, match=r"annotations\.1\.bbox\.2: Input should be a finite number"):
        read_coco(write_coco([annotation(), annotation(bbox=(1, 2, float("nan"), 4))]))


def test_an_image_listed_twice_is_refused(write_coco: WriteCoco) -> None:
    images = [{"id": 5, "file_name": "a.png"}, {"id": 6, "file_name": "a.png"}]
    with pytest.raises(DataError, match=r"an image is listed twice: a\.png"):
        read_coco(write_coco([annotation()], images=images))


def test_annotations_that_share_an_id_are_kept_and_counted(write_coco: WriteCoco) -> None:
    annotations = read_coco(write_coco([annotation(id=1), annotation(id=1), annotation(id=2)]))
    assert len(annotations.records[0].boxes) == 3
    assert annotations.repairs.log[0].what.startswith("1 annotations have the id of another one")


def test_images_that_the_file_does_not_list_are_counted(write_coco: WriteCoco) -> None:
    folder = write_coco([annotation()])
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes())
    annotations = read_coco(folder)
    assert len(annotations.records) == 2
    assert annotations.repairs.log[0].what == f"1 images are not listed and not used, first {folder / 'c.png'}"


def test_repairs_name_the_annotation_and_its_image(write_coco: WriteCoco) -> None:
    folder = write_coco([annotation(), annotation(9, bbox=(1, 1, 0, 5))])
    (repair,) = read_coco(folder).repairs.log
    assert repair.where == f"{folder / '_annotations.coco.json'}: annotations.1 of b.png"
