"""Data in S3: copied from a server that speaks its protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from mrqm.__main__ import app
from mrqm.config import Config
from mrqm.structures.annotations import DataError
from pipelines.registry.model_uri import ModelSourceError, checkpoint_folder
from pipelines.storage.data_cache import data_cache

from ..workplace import Workplace

TinyConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def bucket(workplace: Workplace) -> Iterator[str]:
    """The workplace's data in a bucket; nodes find the server and their credentials in the environment."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "reader")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="images")
        for path in (workplace.folder / "data").rglob("*"):
            if path.is_file():
                s3.upload_file(str(path), "images", f"scenes/{path.relative_to(workplace.folder / 'data')}")
        yield "s3://images/scenes"
    server.stop()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("end", ["", "/"])
def test_a_node_has_what_the_bucket_has(
    bucket: str, end: str, tiny_config: TinyConfig, workplace: Workplace, tmp_path: Path
) -> None:
    config = tiny_config(f"data.root={bucket}{end}", f"data.cache_dir={tmp_path}")
    with data_cache(config.data):
        assert contents(config.data.folder) == contents(workplace.folder / "data")


def test_nothing_is_fetched_twice(bucket: str, tiny_config: TinyConfig, tmp_path: Path) -> None:
    config = tiny_config(f"data.root={bucket}", f"data.cache_dir={tmp_path}")
    said: list[str] = []
    for _ in range(2):
        with data_cache(config.data, said.append):
            pass
    assert len(said) == 1


@pytest.mark.parametrize(
    ("root", "message"),
    [("s3://nowhere/scenes", "cannot be copied.*AWS_ENDPOINT_URL"), ("s3://images/empty", "cannot be copied|no files")],
)
def test_what_is_not_there_is_named(
    bucket: str, root: str, message: str, tiny_config: TinyConfig, tmp_path: Path
) -> None:
    config = tiny_config(f"data.root={root}", f"data.cache_dir={tmp_path}")
    with pytest.raises(DataError, match=f"data.root={root}.*({message})"), data_cache(config.data):
        pass


def mrqm(*words: str) -> str:
    """Run a command that succeeds; return its output."""
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@pytest.mark.ray
def test_commands_read_data_and_models_from_the_bucket_and_keep_runs_there(
    bucket: str, ray_here: None, inside: Workplace, tmp_path: Path
) -> None:
    copies = f"data.cache_dir={tmp_path}/copies"
    words = ["-c", str(inside.config_file), f"data.root={bucket}", copies, "name=far", "output_dir=s3://images/runs"]
    planned = mrqm("plan", *words)
    assert "ready: 0 errors" in planned
    assert "s3://images/runs: written and read back by 1 node" in " ".join(planned.split())
    mrqm("train", *words, "train.epochs=1")
    keys = [entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket="images", Prefix="runs/")["Contents"]]
    assert "runs/far/epoch_0001/model.safetensors" in keys
    assert not [key for key in keys if "mrqm-plan" in key]
    assert "AP50" in mrqm("evaluate", "s3://images/runs/far/epoch_0001", copies)
    assert "in 3 images" in mrqm(
        "predict", "s3://images/runs/far/epoch_0001", f"{bucket}/val/images", "-o", str(tmp_path / "out"),
        "--workers", "1",
    )  # fmt: skip


@pytest.mark.ray
def test_data_in_a_bucket_is_prepared(
    bucket: str, ray_here: None, workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    mrqm("prepare", "visdrone", bucket, str(tmp_path / "prepared"))
    mrqm("prepare", "visdrone", str(workplace.folder / "data"), str(tmp_path / "same"))
    assert (tmp_path / "prepared/train/annotations.json").read_bytes() == (
        tmp_path / "same/train/annotations.json"
    ).read_bytes()
    assert len(list((tmp_path / "prepared/val/images").iterdir())) == 3


def test_a_checkpoint_that_is_not_there_is_named(bucket: str) -> None:
    with (
        pytest.raises(ModelSourceError, match=r"s3://images/runs/none: not a checkpoint: it has no model\.safetensors"),
        checkpoint_folder("s3://images/runs/none"),
    ):
        pass
