"""The checkpoints of a run: only complete ones, in any storage, the best and the newest."""

import json
import math
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mrqm.checkpoint.files import FILES
from mrqm.checkpoint.folder import Snapshot, load_model, load_training
from mrqm.config import Config
from pipelines.storage.checkpoints import CheckpointStore, checkpoint_name
from pipelines.storage.filesystem import Storage, StorageError, open_storage
from pipelines.training.checkpoint_writer import CheckpointWriter

TinyConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def snapshot(tiny_config: TinyConfig, make_model: Any) -> Snapshot:
    config = tiny_config("data.classes=[a, b, c]")
    return Snapshot(make_model(config).state_dict(), {"epoch": 1}, config, {"train/loss": 2.0})


@pytest.fixture(params=["folder", "file", "fsspec"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A run's folder by path, by URI, and through fsspec, as an object store is reached."""
    prefix = {"folder": "", "file": "file://", "fsspec": "local://"}[request.param]
    return open_storage(f"{prefix}{tmp_path}/runs", "demo")


@pytest.fixture
def store(storage: Storage) -> CheckpointStore:
    return CheckpointStore(storage, keep=1)


def write(store: CheckpointStore, snapshot: Snapshot, **scores: float | None) -> None:
    for name, score in scores.items():
        store.write(name, snapshot)
        if score is not None:
            store.score(name, {"coco/AP": score})
            store.prune()


def test_a_written_checkpoint_is_whole(store: CheckpointStore, snapshot: Snapshot) -> None:
    store.write("epoch_0001", snapshot)
    assert store.newest_first() == ["epoch_0001"]
    with store.open("epoch_0001") as folder:
        assert load_training(folder) == {"epoch": 1}
        weights = load_model(folder, snapshot.config).state_dict()
    assert all(torch.equal(weights[name], value) for name, value in snapshot.weights.items())


def test_scores_join_what_is_known(store: CheckpointStore, snapshot: Snapshot) -> None:
    store.write("epoch_0001", snapshot)
    assert store.metrics("epoch_0001") == {"train/loss": 2.0}
    store.score("epoch_0001", {"coco/AP": 0.5})
    assert store.metrics("epoch_0001") == {"train/loss": 2.0, "coco/AP": 0.5}


def test_within_an_epoch_is_after_it_began(store: CheckpointStore, snapshot: Snapshot) -> None:
    assert checkpoint_name(1, 12) == "epoch_0001_step_000012"
    store = CheckpointStore(store._storage, keep=9)
    for name in ("epoch_0002", "epoch_0001_step_000012", "epoch_0001", "epoch_10000"):
        store.write(name, snapshot)
    assert store.newest_first() == ["epoch_10000", "epoch_0002", "epoch_0001_step_000012", "epoch_0001"]


def test_the_best_and_the_newest_are_kept(store: CheckpointStore, snapshot: Snapshot) -> None:
    write(store, snapshot, epoch_0001=0.1, epoch_0002=0.3, epoch_0003=0.2, epoch_0003_step_000050=None)
    assert store.newest_first() == ["epoch_0003_step_000050", "epoch_0002"]
    assert store.best() == "epoch_0002"


def test_of_equals_the_newest_is_best_and_what_is_no_number_worst(store: CheckpointStore, snapshot: Snapshot) -> None:
    store = CheckpointStore(store._storage, keep=9)
    write(store, snapshot, epoch_0001=0.3, epoch_0002=0.3, epoch_0003=math.nan, epoch_0004=None)
    assert store.best() == "epoch_0002"


def test_a_checkpoint_that_waits_for_its_evaluation_is_kept(storage: Storage, snapshot: Snapshot) -> None:
    store = CheckpointStore(storage, keep=1, evaluate_every=2)
    write(store, snapshot, epoch_0001=None, epoch_0002=None, epoch_0003=None, epoch_0003_step_000009=None)
    assert store.waiting() == ["epoch_0002"]
    assert store.newest_first() == ["epoch_0003_step_000009", "epoch_0002"]
    store.score("epoch_0002", {"coco/AP": 0.1})
    assert store.waiting() == []


@pytest.mark.parametrize("missing", FILES)
def test_a_folder_that_is_not_whole_is_no_checkpoint_and_goes(
    store: CheckpointStore, storage: Storage, snapshot: Snapshot, missing: str
) -> None:
    store.write("epoch_0001", snapshot)
    storage.filesystem.delete_file(f"{storage.path}/epoch_0001/{missing}")
    assert store.newest_first() == []
    store.write("epoch_0002", snapshot)
    assert not any(file.startswith("epoch_0001/") for file in storage.list_files())


def test_a_checkpoint_that_is_written_again_replaces_the_old_one(store: CheckpointStore, snapshot: Snapshot) -> None:
    write(store, snapshot, epoch_0001=0.5)
    store.write("epoch_0001", snapshot)
    assert store.metrics("epoch_0001") == {"train/loss": 2.0}


def test_what_a_killed_writer_left_is_removed(tmp_path: Path, snapshot: Snapshot) -> None:
    left = tmp_path / "demo" / ".epoch_0007.part"
    left.mkdir(parents=True)
    store = CheckpointStore(open_storage(str(tmp_path), "demo"), keep=1)
    store.write("epoch_0001", snapshot)
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"epoch_0001"}


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size; the system refuses as it does when a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [1000, 100_000])
def test_a_full_disk_costs_one_checkpoint_and_leaves_nothing_behind(
    tmp_path: Path, snapshot: Snapshot, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    store, saved = CheckpointStore(open_storage(str(tmp_path), "demo"), keep=1), list[str]()
    writer = CheckpointWriter(store, saved.append)
    writer.write("epoch_0001", lambda: snapshot)
    writer._latest.result()  # type: ignore[union-attr]
    with small_disk(size):
        writer.write("epoch_0002", lambda: snapshot)
        writer.score("epoch_0002", {"coco/AP": 0.5})
        writer._latest.result()  # type: ignore[union-attr]
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"epoch_0001"}
    assert "checkpoint epoch_0002 could not be written, the training continues without it" in caplog.text
    writer.write("epoch_0003", lambda: snapshot)
    writer.close()
    assert saved == ["epoch_0001", "epoch_0003"]


def test_the_last_checkpoint_is_waited_for_and_has_to_be_written(
    tmp_path: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.failures.storage_wait.SECONDS_BETWEEN_TRIES", 0.01)
    store = CheckpointStore(open_storage(str(tmp_path), "demo"), keep=1)
    writer = CheckpointWriter(store, lambda name: None, patience=0.1)
    with small_disk(1000):
        writer.write("epoch_0001", lambda: snapshot)
        said = r"the last checkpoint, epoch_0001, could not be written.*\n.*repeat the command: it resumes from"
        with pytest.raises(StorageError, match=said):
            writer.close()
    assert not list((tmp_path / "demo").iterdir())


def test_the_last_checkpoint_and_its_scores_are_written_as_soon_as_there_is_room(
    tmp_path: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room = ExitStack()
    monkeypatch.setattr("pipelines.failures.storage_wait.time.sleep", lambda seconds: room.close())
    saved = list[str]()
    store = CheckpointStore(open_storage(str(tmp_path), "demo"), keep=1)
    writer = CheckpointWriter(store, saved.append)
    with room:
        room.enter_context(small_disk(1000))
        writer.write("epoch_0001", lambda: snapshot)
        writer.score("epoch_0001", {"coco/AP": 0.5})
        writer.close()
    assert (store.best(), saved) == ("epoch_0001", ["epoch_0001"])
    assert "waiting for storage, 10 minutes at most" in caplog.text
    assert "the last checkpoint, epoch_0001, was written" in caplog.text


def test_scores_that_could_not_be_written_come_with_the_next(tmp_path: Path, snapshot: Snapshot) -> None:
    """Without them the best checkpoint would count as not evaluated."""
    store = CheckpointStore(open_storage(str(tmp_path), "demo"), keep=1)
    writer = CheckpointWriter(store, lambda name: None)
    writer.write("epoch_0001", lambda: snapshot)
    writer._latest.result()  # type: ignore[union-attr]
    with small_disk(0):
        writer.score("epoch_0001", {"coco/AP": 0.75})
        writer._latest.result()  # type: ignore[union-attr]
    writer.write("epoch_0002", lambda: snapshot)
    writer.score("epoch_0002", {"coco/AP": 0.25})
    writer.close()
    assert store.best() == "epoch_0001"


def test_what_cannot_be_removed_costs_no_checkpoint(
    tmp_path: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_storage(str(tmp_path), "demo")
    store = CheckpointStore(storage, keep=1)
    for epoch in (1, 2):
        store.write(checkpoint_name(epoch), snapshot)
        store.score(checkpoint_name(epoch), {"coco/AP": epoch / 10})

    def refuse(name: str) -> None:
        raise OSError(16, "Device or resource busy", name)

    monkeypatch.setattr(storage, "delete_folder", refuse)
    store.prune()
    assert "checkpoint epoch_0001 is no longer needed but could not be removed" in caplog.text
    assert store.newest_first() == ["epoch_0002", "epoch_0001"]


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, snapshot: Snapshot) -> None:
    """A pipe without a reader blocks the writing for as long as the test needs."""
    store = CheckpointStore(open_storage(str(tmp_path), "demo"), keep=1)
    store.write("epoch_0001", snapshot)
    pipe = tmp_path / "demo" / "epoch_0001" / ".metrics.json.part"
    os.mkfifo(pipe)
    writer = CheckpointWriter(store, lambda name: None)
    writer.score("epoch_0001", {"coco/AP": 0.5})
    assert writer._latest is not None and not writer._latest.done()
    with pipe.open("rb") as reader:
        content = reader.read()
    assert json.loads(content)["coco/AP"] == 0.5
    writer.close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"output_dir=.*file/demo: cannot be written"):
        open_storage(str(tmp_path / "file"), "demo").require_writable()


def test_a_scheme_that_nobody_knows_is_refused() -> None:
    with pytest.raises(StorageError, match=r"output_dir=nowhere://bucket: cannot be used"):
        open_storage("nowhere://bucket", "demo")
