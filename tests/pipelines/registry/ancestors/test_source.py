"""Resolution of `model.init`: folders, files, URIs and the registry, once for the whole run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mrqm.checkpoint.files import CONFIG, WEIGHTS
from mrqm.config import Config, ConfigError, TrackingConfig
from mrqm.data.formats.digest import file_digest
from mrqm.structures.annotations import DataError
from pipelines.registry.ancestors.source import ancestor_on_disk
from pipelines.storage.ancestors import AncestorRecord, keep_ancestor, kept_weights, read_record
from pipelines.storage.filesystem import Storage, open_storage

TinyConfig = Callable[..., Config]
AddVersion = Callable[..., str]
TRACKING = TrackingConfig()


@pytest.fixture
def run(tmp_path: Path) -> Storage:
    """An empty folder of a run."""
    (tmp_path / "runs" / "child").mkdir(parents=True)
    return open_storage(str(tmp_path / "runs"), "child")


def find(source: str | None, run: Storage) -> tuple[AncestorRecord, bytes]:
    with ancestor_on_disk(source, run, TRACKING) as found:
        assert found is not None
        return found.record, found.weights.read_bytes()


@pytest.mark.parametrize("form", ["{}", "file://{}", "{}/model.safetensors", "file://{}/model.safetensors"])
def test_folders_files_and_uris_are_found(form: str, run: Storage, spotter_checkpoint: Path) -> None:
    source = form.format(spotter_checkpoint)
    record, weights = find(source, run)
    assert record == AncestorRecord(
        source=source, version=None, sha256=file_digest(spotter_checkpoint / WEIGHTS), classes=("a", "b", "c")
    )
    assert weights == (spotter_checkpoint / WEIGHTS).read_bytes()


def test_the_best_checkpoint_of_a_run_at_a_uri_is_found(run: Storage, spotter_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(spotter_checkpoint, tmp_path / "runs" / "parent" / "epoch_0001")
    assert find(f"file://{tmp_path}/runs/parent", run)[0].classes == ("a", "b", "c")


def test_a_run_goes_on_from_its_own_copy(run: Storage, spotter_checkpoint: Path, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(spotter_checkpoint, parent)
    with ancestor_on_disk(str(parent), run, TRACKING) as found:
        assert found is not None
        keep_ancestor(run, found.weights, found.record)
    before = find(str(parent), run)
    shutil.rmtree(parent)
    assert find(str(parent), run) == before
    with kept_weights(run, str(parent)) as weights:
        assert weights is not None
        assert weights.read_bytes() == before[1]
        assert (weights.parent / CONFIG).read_bytes() == (spotter_checkpoint / CONFIG).read_bytes()
    assert read_record(run, "another") is None


def test_a_copy_in_an_object_store_is_the_same(spotter_checkpoint: Path, tmp_path: Path) -> None:
    remote = open_storage(f"memory://{tmp_path.name}", "child")
    assert remote.local is None
    with ancestor_on_disk(str(spotter_checkpoint), remote, TRACKING) as found:
        assert found is not None
        keep_ancestor(remote, found.weights, found.record)
    record, weights = find(str(spotter_checkpoint), remote)
    assert (record, weights) == (found.record, (spotter_checkpoint / WEIGHTS).read_bytes())


def test_an_error_within_the_context_is_not_blamed_on_the_ancestor(run: Storage, spotter_checkpoint: Path) -> None:
    with pytest.raises(DataError, match=r"^elsewhere$"), ancestor_on_disk(str(spotter_checkpoint), run, TRACKING):
        raise DataError("elsewhere")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{}/nowhere", "no such checkpoint"),
        ("file://{}/nowhere.safetensors", "cannot be read: "),
        ("file://{}/nowhere", "not a checkpoint: it has no model.safetensors"),
        ("strange://{}/nowhere.safetensors", "cannot be read: "),
        ("{}/notes.safetensors", "damaged, or not a safetensors file"),
        ("file://{}/notes.safetensors", "damaged, or not a safetensors file"),
    ],
)
def test_what_is_not_there_or_no_detector_is_refused(source: str, reason: str, run: Storage, tmp_path: Path) -> None:
    (tmp_path / "notes.safetensors").write_text("hello")
    word = source.format(tmp_path)
    with pytest.raises(ConfigError) as refused, ancestor_on_disk(word, run, TRACKING):
        pass
    assert str(refused.value).startswith(f"model.init={word} cannot be used: ")
    assert reason in str(refused.value)


@pytest.mark.slow
@pytest.mark.usefixtures("away_from_the_run")
def test_an_alias_means_the_version_that_it_had_when_the_run_began(
    run: Storage, add_version: AddVersion, client: MlflowClient
) -> None:
    first, second = add_version(), add_version()
    name = first.partition("/")[0]
    source = f"models:/{name}@champion"
    client.set_registered_model_alias(name, "champion", "1")
    with ancestor_on_disk(source, run, TRACKING) as found:
        assert found is not None
        assert found.record.version == first
        assert found.describe() == f"{source} ({first})"
        keep_ancestor(run, found.weights, found.record)
    client.set_registered_model_alias(name, "champion", "2")
    assert find(source, run)[0].version == first
    assert find(f"models:/{name}", run)[0].version == second


@pytest.mark.slow
@pytest.mark.usefixtures("away_from_the_run")
def test_a_version_without_weights_is_refused(run: Storage, add_version: AddVersion, model_files: Path) -> None:
    version = add_version(source=str(model_files))

    def refusal() -> str:
        with pytest.raises(ConfigError) as refused, ancestor_on_disk(f"models:/{version}", run, TRACKING):
            pass
        return str(refused.value)

    (model_files / "artifacts/checkpoint" / WEIGHTS).unlink()
    assert f"model.init=models:/{version} cannot be used: " in refusal()
    assert "has no model.safetensors; choose another version" in refusal()
    shutil.rmtree(model_files / "artifacts")
    assert "not a model that mrqm registered: it has no artifacts/checkpoint" in refusal()


@pytest.mark.slow
@pytest.mark.usefixtures("away_from_the_run")
def test_weights_that_are_not_the_registered_ones_are_refused(run: Storage, add_version: AddVersion) -> None:
    version = add_version(**{"checkpoint.sha256": "0" * 64})
    with (
        pytest.raises(ConfigError, match="are not the registered ones"),
        ancestor_on_disk(f"models:/{version}", run, TRACKING),
    ):
        pass
