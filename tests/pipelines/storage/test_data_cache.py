"""A node's copy of data at a URI, here of pyarrow's own local file system."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mrqm.config import Config, ConfigError
from mrqm.data import build_dataset
from mrqm.structures.annotations import DataError
from pipelines.storage.data_cache import data_cache

TinyConfig = Callable[..., Config]
MakeConfig = Callable[..., Config]


@pytest.fixture
def make(tiny_config: TinyConfig, tmp_path_factory: pytest.TempPathFactory) -> MakeConfig:
    """Make a configuration of data at a URI."""
    copies = tmp_path_factory.mktemp("copies")

    def build(source: Path, *overrides: str) -> Config:
        return tiny_config(
            f"data.root=file://{source}", f"data.cache_dir={copies}", "data.classes=[blue, yellow]", *overrides
        )

    return build


def write(folder: Path, size: int, name: str = "a.bin") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x" * size)
    return folder


def copied(config: Config) -> list[str]:
    with data_cache(config.data):
        return sorted(path.relative_to(config.data.folder).as_posix() for path in config.data.folder.rglob("*.bin"))


def test_a_dataset_is_built_from_the_copy(make: MakeConfig, squares: Callable[..., Path]) -> None:
    source = squares(images=2)
    config = make(source)
    with data_cache(config.data):
        dataset = build_dataset(config, "train")
        assert not any(record.path.is_relative_to(source / "train") for record in dataset.annotations.records)
        assert len(dataset) == 2


def test_a_folder_is_read_where_it_is(tiny_config: TinyConfig, tmp_path: Path) -> None:
    config = tiny_config(f"data.root={tmp_path}/data", f"data.cache_dir={tmp_path}/copies")
    with data_cache(config.data):
        assert config.data.folder == tmp_path / "data"
    assert not (tmp_path / "copies").exists()


def test_only_what_changed_is_copied_again(make: MakeConfig, tmp_path: Path) -> None:
    config = make(write(tmp_path / "source", 10))
    write(tmp_path / "source", 10, "b.bin")
    copied(config)
    kept = (config.data.folder / "a.bin").stat().st_ino
    write(tmp_path / "source", 20, "b.bin")
    said: list[str] = []
    with data_cache(config.data, said.append):
        assert (config.data.folder / "a.bin").stat().st_ino == kept
        assert (config.data.folder / "b.bin").stat().st_size == 20
    assert len(said) == 1


def test_what_is_gone_from_the_source_goes_from_the_copy(make: MakeConfig, tmp_path: Path) -> None:
    config = make(write(tmp_path / "source", 10))
    write(tmp_path / "source", 10, "b.bin")
    assert copied(config) == ["a.bin", "b.bin"]
    (tmp_path / "source" / "a.bin").unlink()
    assert copied(config) == ["b.bin"]


def test_the_copy_used_longest_ago_makes_room(make: MakeConfig, tmp_path: Path) -> None:
    bound = "data.cache_max_gb=2.5e-6"
    configs = [make(write(tmp_path / name, 1000), bound) for name in ("one", "two", "three")]
    for seconds, config in enumerate(configs[:2]):
        copied(config)
        os.utime(config.data.folder.with_name(f"{config.data.folder.name}.lock"), (seconds, seconds))
    copied(configs[2])
    assert [config.data.folder.exists() for config in configs] == [False, True, True]


def test_a_copy_that_is_read_is_not_removed(make: MakeConfig, tmp_path: Path) -> None:
    one, two = (make(write(tmp_path / name, 1000), "data.cache_max_gb=1.5e-6") for name in ("one", "two"))
    with data_cache(one.data), pytest.raises(DataError, match=r"data\.cache_max_gb=1\.5e-06"), data_cache(two.data):
        pass
    assert (one.data.folder / "a.bin").is_file()


def test_a_copy_that_is_read_is_not_changed(make: MakeConfig, tmp_path: Path) -> None:
    config = make(write(tmp_path / "source", 10))
    with data_cache(config.data):
        write(tmp_path / "source", 20)
        with pytest.raises(DataError, match="has changed while another training"), data_cache(config.data):
            pass
        assert (config.data.folder / "a.bin").stat().st_size == 10


@pytest.mark.parametrize(
    ("uri", "message"),
    [("file:///nowhere/at/all", "cannot be copied"), ("gopher://host/data", "cannot be copied")],
)
def test_what_cannot_be_read_is_named(tiny_config: TinyConfig, tmp_path: Path, uri: str, message: str) -> None:
    config = tiny_config(f"data.root={uri}", f"data.cache_dir={tmp_path}/copies")
    with pytest.raises(DataError, match=f"data.root={uri}.*{message}"), data_cache(config.data):
        pass


def test_a_folder_for_copies_that_cannot_be_made_is_named(tiny_config: TinyConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = tiny_config(f"data.root=file://{tmp_path}", f"data.cache_dir={tmp_path}/file/copies")
    with pytest.raises(DataError, match=f"data.cache_dir={tmp_path}/file/copies"), data_cache(config.data):
        pass


def test_an_empty_source_is_named(make: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no files there"), data_cache(make(tmp_path / "empty").data):
        pass


def test_credentials_in_a_uri_are_refused(tiny_config: TinyConfig) -> None:
    with pytest.raises(ConfigError, match=r"data.root: the URI holds a password or token"):
        tiny_config("data.root=s3://key:secret@bucket/data")
