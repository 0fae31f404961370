"""Generated scenes: deterministic, in VisDrone's layout, with tight boxes, never half written."""

from pathlib import Path

import numpy as np
import pytest

from mrqm.data.formats.visdrone import read_visdrone
from mrqm.data.synthetic import SCENE_CLASSES, Scene, make_scene, write_scenes
from mrqm.data.synthetic.paint import solids
from mrqm.structures.annotations import DataError

SIZE = (200, 240)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(SIZE, (0, 0, index)) for index in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    write_scenes(folder, train=6, val=2, size=SIZE, seed=3)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lines(folder: Path, split: str) -> list[list[int]]:
    files = sorted((folder / split / "annotations").glob("*.txt"))
    return [[int(field) for field in line.split(",")] for file in files for line in file.read_text().splitlines()]


def test_same_seed_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "again", train=6, val=2, size=SIZE, seed=3)
    assert contents(tmp_path / "again") == contents(folder)


def test_other_seeds_splits_and_indices_are_other_pictures() -> None:
    pictures = {make_scene((96, 96), key).image.tobytes() for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))}
    assert len(pictures) == 4


def test_a_longer_set_begins_with_the_shorter_one(folder: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "short", train=2, val=1, size=SIZE, seed=3)
    short, long = contents(tmp_path / "short"), contents(folder)
    assert all(long[name] == short[name] for name in short if name != "scenes.json")


def test_images_and_annotations_are_beside_each_other(folder: Path) -> None:
    for split, count in (("train", 6), ("val", 2)):
        images = [path.stem for path in sorted((folder / split / "images").glob("*.jpg"))]
        assert len(images) == count
        assert images == [path.stem for path in sorted((folder / split / "annotations").glob("*.txt"))]


def test_lines_are_visdrone_rows(folder: Path) -> None:
    rows = lines(folder, "train")
    assert len(rows) > 50
    for left, top, width, height, score, category, truncation, occlusion in rows:
        assert 0 <= left < left + width <= SIZE[1]
        assert 0 <= top < top + height <= SIZE[0]
        assert 0 <= category <= len(SCENE_CLASSES)
        assert score == (category > 0)
        assert truncation in (0, 1)
        assert occlusion in (0, 1, 2)


def test_the_visdrone_reader_reads_every_object(folder: Path) -> None:
    annotations = read_visdrone(folder / "train", SCENE_CLASSES)
    rows = lines(folder, "train")
    boxes = np.concatenate([record.boxes for record in annotations.records])
    labels = np.concatenate([record.labels for record in annotations.records])
    expected = np.array([row for row in rows if row[5] > 0])
    assert annotations.classes == SCENE_CLASSES
    np.testing.assert_array_equal(labels, expected[:, 5] - 1)
    np.testing.assert_array_equal(boxes, np.hstack([expected[:, :2], expected[:, :2] + expected[:, 2:4]]))
    assert sum(len(record.ignore_boxes) for record in annotations.records) == sum(row[5] == 0 for row in rows)


def test_objects_are_small(scenes: list[Scene]) -> None:
    longest = [max(one.box[2:]) for scene in scenes for one in scene.objects]
    assert min(longest) >= 5
    assert max(longest) <= 40


def test_every_class_occurs(scenes: list[Scene]) -> None:
    assert {one.label for scene in scenes for one in scene.objects} == set(range(len(SCENE_CLASSES)))


def test_boxes_are_tight_around_what_is_painted(scenes: list[Scene]) -> None:
    for scene in scenes[:4]:
        for one in scene.objects:
            painted = solids([one.thing], scene.camera, scene.light)[..., 3] > 64
            rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
            left, top, width, height = one.box
            extent = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert np.abs(extent - (left, top, left + width, top + height)).max() <= 1


def test_cut_objects_touch_the_border(scenes: list[Scene]) -> None:
    cut = [one for scene in scenes for one in scene.objects if one.truncation]
    assert cut
    for one in cut:
        left, top, width, height = one.box
        assert left == 0 or top == 0 or left + width == SIZE[1] or top + height == SIZE[0]


def test_no_annotated_object_lies_in_an_ignored_region() -> None:
    scenes = [make_scene((160, 160), (0, 0, index)) for index in range(16)]
    assert any(scene.ignored for scene in scenes)
    for scene in scenes:
        inside = np.zeros((160, 160))
        for left, top, width, height in scene.ignored:
            inside[top : top + height, left : left + width] = 1
        for one in scene.objects:
            left, top, width, height = one.box
            assert inside[top : top + height, left : left + width].mean() < 0.5


def test_a_complete_set_is_left_alone(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    write_scenes(folder, train=6, val=2, size=SIZE, seed=3, on_scene=pytest.fail)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_arguments_replace_the_set(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", train=2, val=1, size=(64, 64))
    write_scenes(tmp_path / "scenes", train=1, val=1, size=(64, 64))
    assert len(list((tmp_path / "scenes" / "train" / "images").iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


@pytest.mark.parametrize("earlier", [False, True])
def test_an_interrupted_set_never_looks_whole(tmp_path: Path, earlier: bool) -> None:
    folder = tmp_path / "scenes"
    if earlier:
        write_scenes(folder, train=1, val=1, size=(64, 64))
    before = contents(folder)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(folder, train=3, val=1, size=(64, 64), on_scene=interrupt)
    assert folder.exists() == earlier
    assert contents(folder) == before
    write_scenes(folder, train=3, val=1, size=(64, 64))
    assert len(list((folder / "train" / "images").iterdir())) == 3


def test_foreign_folders_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious.jpg").touch()
    with pytest.raises(DataError, match="holds no generated scenes"):
        write_scenes(tmp_path, train=1, val=1, size=(64, 64))
    assert (tmp_path / "precious.jpg").exists()


def test_progress_is_reported_per_scene(tmp_path: Path) -> None:
    calls: list[None] = []
    write_scenes(tmp_path / "scenes", train=3, val=2, size=(64, 64), on_scene=lambda: calls.append(None))
    assert len(calls) == 5
