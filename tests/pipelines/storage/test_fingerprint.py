"""Identity of a run: a moved folder resumes, and a run with other content does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mrqm.config import Config, Role, fill_defaults, has_role, make_config
from mrqm.config.dotted import flatten
from mrqm.data import build_dataset
from mrqm.data.synthetic import SCENE_CLASSES, write_scenes
from mrqm.structures.annotations import DataError
from pipelines.storage.ancestors import AncestorRecord
from pipelines.storage.fingerprint import WEIGHTS, Fingerprint, begin, describe_unknown, fingerprint_of, require_same
from pipelines.storage.run_dir import RunError, RunFolder

TinyConfig = Callable[..., Config]


@pytest.fixture
def make(tiny_config: TinyConfig, tmp_path: Path, backbone_weights: Path) -> TinyConfig:
    """Make the configuration of a run with its own data and weights."""
    write_scenes(tmp_path / "data", train=8, val=3, size=(96, 96))
    shutil.copy(backbone_weights, tmp_path / "weights.safetensors")
    classes = f"data.classes=[{','.join(SCENE_CLASSES)}]"
    places = [f"output_dir={tmp_path}/runs", f"data.root={tmp_path}/data", f"{WEIGHTS}={tmp_path}/weights.safetensors"]
    return lambda *overrides: tiny_config(*places, classes, *overrides)


def whole(config: Config) -> Fingerprint:
    return fingerprint_of(config).with_data({split: build_dataset(config, split) for split in ("train", "val")})


def start(config: Config) -> None:
    """Begin or resume a run, as a command does."""
    folder = RunFolder(config)
    with folder.claimed():
        require_same(config, folder, fingerprint_of(config))
        begin(config, folder, whole(config))


def refusal(config: Config) -> str:
    with pytest.raises(RunError) as raised:
        start(config)
    return str(raised.value)


def annotations(split: str, folder: Path) -> Path:
    """Find the annotations of the image with most objects."""
    return max(sorted((folder / "data" / split / "annotations").iterdir()), key=lambda path: path.stat().st_size)


def image(split: str, folder: Path) -> Path:
    """Find the image with most objects."""
    return next((folder / "data" / split / "images").glob(f"{annotations(split, folder).stem}.*"))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def rename_an_image(split: str, folder: Path) -> None:
    for path in (image(split, folder), annotations(split, folder)):
        path.rename(path.with_stem("zz"))


def remove_an_image(split: str, folder: Path) -> None:
    least = min((folder / "data" / split / "annotations").iterdir(), key=lambda path: path.stat().st_size)
    next((folder / "data" / split / "images").glob(f"{least.stem}.*")).unlink()
    least.unlink()


def drop_an_object(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    "edit",
    [
        lambda split, folder: drop_an_object(annotations(split, folder)),
        lambda split, folder: flip_a_byte(image(split, folder)),
        lambda split, folder: rename_an_image(split, folder),
        lambda split, folder: remove_an_image(split, folder),
    ],
    ids=["an object removed", "a byte changed", "an image renamed", "an image removed"],
)
def test_edited_data_is_refused_by_split(
    make: TinyConfig, tmp_path: Path, split: str, edit: Callable[[str, Path], object]
) -> None:
    start(make())
    edit(split, tmp_path)
    said, other = refusal(make()), "val" if split == "train" else "train"
    assert f"  data.{split}: " in said and f"data.{other}: " not in said
    assert "objects" in said and "(digest " in said and "choose another name, such as name=tiny-2" in said


def test_moved_data_weights_and_folders_go_on(make: TinyConfig, tmp_path: Path) -> None:
    start(make())
    (tmp_path / "elsewhere").mkdir()
    for name in ("data", "weights.safetensors", "runs"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    (tmp_path / "elsewhere" / "data" / "val").rename(tmp_path / "elsewhere" / "data" / "validation")
    new = tmp_path / "elsewhere"
    moved = make(
        f"output_dir={new}/runs", f"data.root={new}/data", "data.val=validation", f"{WEIGHTS}={new}/weights.safetensors"
    )
    start(moved)
    assert require_same(moved, RunFolder(moved), whole(moved)) is not None


def test_a_renamed_folder_goes_on_under_its_new_name(make: TinyConfig, tmp_path: Path) -> None:
    start(make())
    (tmp_path / "runs" / "tiny").rename(tmp_path / "runs" / "first")
    start(make("name=first"))


def test_other_weights_in_the_same_file_are_refused(make: TinyConfig, tmp_path: Path) -> None:
    start(make())
    flip_a_byte(tmp_path / "weights.safetensors")
    assert f"{WEIGHTS}: " in refusal(make())


def test_another_protocol_is_refused(make: TinyConfig) -> None:
    config = make()
    start(config)
    now = whole(config).model_copy(update={"protocol": "9 maxDets=1"})
    with pytest.raises(RunError, match=r"protocol coco: was .*, is now 9 maxDets=1"):
        begin(config, RunFolder(config), now)


def altered(value: Any) -> Any:
    """Return a different value."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return [*value, "x"] if isinstance(value, list) else f"{value}x"


KEYS = flatten(Config().model_dump(mode="json", exclude={"name", "output_dir", "tracking"}))


def kept(config: Config, change: Callable[[dict[str, Any], str], None], key: str) -> Fingerprint:
    """Make a fingerprint with a changed setting."""
    settings = config.model_dump(mode="json")
    *sections, leaf = key.split(".")
    place = settings
    for section in sections:
        place = place[section]
    change(place, leaf)
    return fingerprint_of(config).model_copy(update={"settings": settings})


@pytest.mark.parametrize("key", KEYS)
def test_every_key_counts_but_those_that_say_where_and_how(key: str) -> None:
    def change(place: dict[str, Any], leaf: str) -> None:
        place[leaf] = altered(place[leaf])

    config = Config()
    data = {"data.train": "1", "data.val": "2"}
    former = kept(config, change, key)
    former = former.model_copy(update={"content": former.content | data})
    differences = fingerprint_of(config).differences(former)
    counts = not (has_role(key, Role.RUNTIME) or has_role(key, Role.DATA) or key == WEIGHTS)
    assert [line.partition(":")[0] for line in differences] == ([key] if counts else [])


@pytest.mark.parametrize("key", [key for key in KEYS if not key.startswith("evaluation.area_bins.")])
def test_a_key_that_was_not_there_yet_is_equal_to_its_default(key: str) -> None:
    config = Config()
    assert fingerprint_of(config).differences(kept(config, lambda place, leaf: place.pop(leaf), key)) == []


def test_a_key_that_was_not_there_yet_has_to_have_its_default() -> None:
    tiles = make_config({"data": {"tile": {"size": 300, "empty_fraction": 0.5}}})
    former = kept(tiles, lambda place, leaf: place.pop(leaf), "data.tile.empty_fraction")
    assert fingerprint_of(tiles).differences(former) == ["data.tile.empty_fraction: was 0.0, is now 0.5"]


def test_a_key_of_another_version_that_is_unknown_here_is_told() -> None:
    config = Config()
    former = kept(config, lambda place, leaf: place.update({"momentum": 0.9}), "optim.lr")
    assert fingerprint_of(config).differences(former) == ["optim.momentum: was 0.9, is now absent"]


def test_a_section_that_is_off_is_not_one_with_defaults() -> None:
    former = fingerprint_of(make_config({"data": {"tile": {}}}))
    differences = fingerprint_of(Config()).differences(former)
    assert "data.tile: was absent, is now None" in differences
    assert "data.tile.size: was 800, is now absent" in differences


def test_filling_in_defaults_changes_nothing_that_is_there() -> None:
    values = make_config({"data": {"tile": {"size": 300}}, "optim": {"lr": 0.5}}).model_dump(mode="json")
    assert fill_defaults(values) == values
    assert fill_defaults({"optim": {"lr": 0.5}, "later": {"x": 1}})["later"] == {"x": 1}


def begin_as_before(config: Config) -> Path:
    """Begin a run as versions without fingerprints did."""
    folder = RunFolder(config)
    folder.path.mkdir(parents=True)
    folder.storage.write("config.yaml", config.to_yaml())
    return folder.path


def test_a_run_without_a_fingerprint_goes_on_and_gets_one(make: TinyConfig, tmp_path: Path) -> None:
    config = make()
    path = begin_as_before(config)
    former = require_same(config, RunFolder(config), whole(config))
    assert former is not None and describe_unknown(former) is not None
    start(config)
    assert json.loads((path / "fingerprint.json").read_text())["content"].keys() == {"data.train", "data.val", WEIGHTS}
    drop_an_object(annotations("val", tmp_path))
    assert "data.val: " in refusal(config)


@pytest.mark.parametrize(
    ("override", "reason"),
    [("optim.lr=0.5", "optim.lr: was 0.001, is now 0.5"), ("data.root=there", "data.root: ")],
)
def test_a_run_without_a_fingerprint_is_refused_with_the_reason(make: TinyConfig, override: str, reason: str) -> None:
    begin_as_before(make())
    with pytest.raises(RunError) as raised:
        require_same(make(override), RunFolder(make()), fingerprint_of(make(override)))
    assert reason in str(raised.value)
    assert "(begun by a version without fingerprints)" in str(raised.value)


def test_a_run_without_a_fingerprint_may_lack_keys_of_today(make: TinyConfig) -> None:
    path = begin_as_before(make())
    values = yaml.safe_load((path / "config.yaml").read_text())
    del values["train"]["max_skipped"], values["loss"]["mining"]["growth"]
    (path / "config.yaml").write_text(yaml.safe_dump(values))
    start(make())


def test_the_folder_of_a_sweep_is_no_run(make: TinyConfig) -> None:
    config = make()
    start(config)
    file = RunFolder(config).path / "fingerprint.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"kind": "sweep"}))
    assert "runs/tiny is a sweep, not a run; choose another name" in refusal(config)


def test_a_fingerprint_that_cannot_be_read_is_a_message(make: TinyConfig) -> None:
    start(make())
    (RunFolder(make()).path / "fingerprint.json").write_text("{")
    assert "fingerprint.json cannot be read by mrqm" in refusal(make())


def test_an_image_that_cannot_be_read_is_named(make: TinyConfig, tmp_path: Path) -> None:
    datasets = {split: build_dataset(make(), split) for split in ("train", "val")}
    gone = image("train", tmp_path)
    gone.unlink()
    with pytest.raises(DataError, match=rf"{gone}: cannot be read"):
        fingerprint_of(make()).with_data(datasets)


def test_a_detector_to_start_from_is_known_by_its_weights(make: TinyConfig) -> None:
    def begin_from(source: str, digest: str) -> None:
        config = make(f"model.init={source}")
        record = AncestorRecord(source=source, version=None, sha256=digest, classes=None)
        with (folder := RunFolder(config)).claimed():
            begin(config, folder, whole(config).with_init(record))

    begin_from("runs/parent", "ab" * 32)
    begin_from("archive/parent", "ab" * 32)  # the same weights at another place
    with pytest.raises(RunError, match=r"model\.init: was abababababab, is now cdcdcdcdcdcd"):
        begin_from("archive/parent", "cd" * 32)
    with pytest.raises(RunError, match=r"model\.init: was archive/parent, is now None"):
        start(make())
