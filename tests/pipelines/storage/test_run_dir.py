from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mrqm.config import Config
from pipelines.storage.absolute_paths import with_absolute_paths
from pipelines.storage.filesystem import StorageError
from pipelines.storage.fingerprint import begin, fingerprint_of
from pipelines.storage.run_dir import RunError, RunFolder
from pipelines.storage.run_summary import Summary

TinyConfig = Callable[..., Config]


@pytest.fixture
def config(tiny_config: TinyConfig, tmp_path: Path) -> Config:
    return tiny_config(f"output_dir={tmp_path}")


def claim(config: Config) -> None:
    folder = RunFolder(config)
    with folder.claimed():
        begin(config, folder, fingerprint_of(config))


def test_the_same_configuration_claims_its_folder_again(config: Config) -> None:
    claim(config)
    claim(config)


def test_another_configuration_is_refused_with_the_keys_that_differ(config: Config, tiny_config: TinyConfig) -> None:
    claim(config)
    other = tiny_config(f"output_dir={config.output_dir}", "optim.lr=0.5", "train.epochs=7")
    with pytest.raises(RunError, match=r"(?s)optim\.lr: was 0\.001, is now 0\.5.*train\.epochs: was 2, is now 7"):
        claim(other)


def test_a_run_that_did_not_begin_may_be_corrected(config: Config, tiny_config: TinyConfig) -> None:
    with RunFolder(config).claimed():
        pass
    claim(tiny_config(f"output_dir={config.output_dir}", "optim.lr=0.5"))


def test_a_claim_in_which_nothing_begins_leaves_nothing(tiny_config: TinyConfig, tmp_path: Path) -> None:
    for output in (tmp_path / "new" / "runs", f"local://{tmp_path}/store"):
        with RunFolder(tiny_config(f"output_dir={output}")).claimed():
            pass
        with pytest.raises(RunError), RunFolder(tiny_config(f"output_dir={output}")).claimed():
            raise RunError
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "store" / "tiny").exists()


def test_a_claim_leaves_what_was_there(tiny_config: TinyConfig, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine.txt").touch()
    with RunFolder(tiny_config(f"output_dir={tmp_path}/runs")).claimed():
        pass
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["mine.txt"]


def test_a_refused_configuration_leaves_the_folder_as_it_was(config: Config, tiny_config: TinyConfig) -> None:
    claim(config)
    with pytest.raises(RunError):
        claim(tiny_config(f"output_dir={config.output_dir}", "optim.lr=0.5"))
    claim(config)


@pytest.mark.parametrize(
    "override",
    [
        "train.num_checkpoints_to_keep=5",
        "tracking.experiment=other",
        "data.loader_workers=3",
        "train.on_divergence=skip",
        "scaling.num_workers=2",
    ],
)
def test_what_cannot_change_the_result_may_change(config: Config, tiny_config: TinyConfig, override: str) -> None:
    claim(config)
    claim(tiny_config(f"output_dir={config.output_dir}", override))


def test_a_run_is_not_continued_where_that_is_unwanted(config: Config, tiny_config: TinyConfig) -> None:
    never = tiny_config(f"output_dir={config.output_dir}", "train.resume=never")
    claim(never)
    with pytest.raises(RunError, match=r"tiny exists in .*train\.resume=never"):
        claim(never)


def test_a_folder_is_claimed_by_one_at_a_time(config: Config) -> None:
    folder = RunFolder(config)
    with folder.claimed(), pytest.raises(RunError, match="another process"):
        claim(config)


def test_summaries_survive_the_disk(config: Config) -> None:
    summary = Summary(
        name="tiny",
        folder="runs/tiny",
        checkpoint="runs/tiny/epoch_0002",
        epoch=2,
        metrics={"AP": 0.5},
        picture=None,
        tracking_uri="sqlite:///mlflow.db",
        run_id="1",
        model_uri="models:/tiny/1",
        registered_as=None,
    )
    folder = RunFolder(config)
    claim(config)
    assert folder.read_summary() is None
    folder.write_summary(summary)
    places = {name: f"{folder.path}{place}" for name, place in (("folder", ""), ("checkpoint", "/epoch_0002"))}
    assert folder.read_summary() == replace(summary, **places), "the folder may have been moved"


def test_mlflow_runs_are_remembered_by_store(config: Config) -> None:
    folder = RunFolder(config)
    claim(config)
    folder.write_mlflow_run("sqlite:///a.db", "1")
    assert folder.read_mlflow_run("sqlite:///a.db") == "1"
    assert folder.read_mlflow_run("sqlite:///b.db") is None


def test_paths_become_absolute(tiny_config: TinyConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = with_absolute_paths(tiny_config("data.root=d", "output_dir=o", "model.backbone.weights=w.safetensors"))
    assert config.data.root == tmp_path / "d"
    assert config.output_dir == str(tmp_path / "o")
    assert config.model.backbone.weights == str(tmp_path / "w.safetensors")


def test_words_for_weights_stay_words(tiny_config: TinyConfig) -> None:
    assert with_absolute_paths(tiny_config("model.backbone.weights=hub")).model.backbone.weights == "hub"


def test_uris_stay_uris(tiny_config: TinyConfig) -> None:
    assert with_absolute_paths(tiny_config("output_dir=s3://bucket/runs")).output_dir == "s3://bucket/runs"


def test_a_run_in_a_store_is_claimed_by_one_at_a_time(tiny_config: TinyConfig, tmp_path: Path) -> None:
    """Through fsspec, as object stores, which have no locks."""
    config = tiny_config(f"output_dir=local://{tmp_path}")
    claim(config)
    with RunFolder(config).claimed(), pytest.raises(RunError, match="another process"):
        claim(config)
    assert (tmp_path / "tiny" / "config.yaml").is_file()


def test_too_little_room_is_said_with_what_is_needed(config: Config) -> None:
    said = r"output_dir=.* (MB|GB|TB) are free, and checkpoints need 100\.0 TB \(1\.0 MB each"
    with pytest.raises(StorageError, match=said):
        RunFolder(config).require_space(needed=10**14, checkpoint=2**20)
    RunFolder(config).require_space(needed=1, checkpoint=1)
