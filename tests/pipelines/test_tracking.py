"""Against a real SQLite store; what a server answers is MLflow's own matter."""

import math
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

from mrqm.config import Config, TrackingConfig
from mrqm.engine import StepReport
from pipelines.events import EpochReport
from pipelines.runs import RunFolder
from pipelines.tracking import Tracker, TrackingError, metric_name, resolve_uri

TinyConfig = Callable[..., Config]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that exists: making one takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def config(tiny_config: TinyConfig, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tiny_config(f"output={tmp_path}", f"tracking.uri=sqlite:///{store}")


@pytest.fixture
def folder(config: Config) -> RunFolder:
    folder = RunFolder(config)
    folder.path.mkdir()
    return folder


def step(number: int, loss: float) -> StepReport:
    return StepReport(
        epoch=1,
        epochs=2,
        step=number,
        epoch_step=number,
        epoch_steps=4,
        losses={"loss": loss},
        lr=0.1,
        images_per_second=5.0,
        images_seen=8,
        elapsed_seconds=1.0,
        eta_seconds=1.0,
    )


def test_every_setting_is_a_parameter_and_the_file_an_artifact(config: Config, folder: RunFolder) -> None:
    with Tracker(config, folder) as tracker:
        run = tracker.client.get_run(tracker.run_id)
    assert run.data.params["optim.lr"] == "0.001"
    assert run.data.params["model.refinement.blocks"] == "1"
    assert run.info.run_name == "tiny"
    text = Path(tracker.client.download_artifacts(tracker.run_id, "config.yaml")).read_text()
    assert yaml.safe_load(text) == config.model_dump(mode="json")


def test_metrics_are_written_at_their_steps(config: Config, folder: RunFolder) -> None:
    with Tracker(config, folder) as tracker:
        tracker.log_step(step(1, 3.0))
        tracker.log_step(step(2, 2.0))
        metrics = {"train/loss": 2.5, "coco/AP": 0.25, "coco/AP/odd|class": 0.5, "coco/AP_large": math.nan}
        tracker.log_epoch(EpochReport(epoch=1, epochs=2, step=2, metrics=metrics, picture=None), None)
        history = tracker.client.get_metric_history(tracker.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 3.0), (2, 2.0)]
    logged = tracker.client.get_run(tracker.run_id).data.metrics
    assert (logged["coco/AP"], logged["coco/AP/odd_class"], logged["epoch"]) == (0.25, 0.5, 1)
    assert "coco/AP_large" not in logged


def test_pictures_are_artifacts(config: Config, folder: RunFolder, tmp_path: Path) -> None:
    picture = tmp_path / "epoch_0001.png"
    Image.new("RGB", (2, 2)).save(picture)
    with Tracker(config, folder) as tracker:
        tracker.log_epoch(EpochReport(epoch=1, epochs=2, step=2, metrics={}, picture=b""), picture)
        assert [file.path for file in tracker.client.list_artifacts(tracker.run_id, "pictures")] == [
            "pictures/epoch_0001.png"
        ]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_the_run_ends_as_the_training_did(
    config: Config, folder: RunFolder, error: type[BaseException] | None, status: str
) -> None:
    tracker = Tracker(config, folder)
    if error is None:
        with tracker:
            pass
    else:
        with pytest.raises(error), tracker:
            raise error
    assert tracker.client.get_run(tracker.run_id).info.status == status


def test_a_continued_run_goes_on_in_its_mlflow_run(config: Config, folder: RunFolder) -> None:
    with pytest.raises(KeyboardInterrupt), Tracker(config, folder) as first:
        raise KeyboardInterrupt
    second = Tracker(config, folder)
    assert second.run_id == first.run_id
    assert second.client.get_run(second.run_id).info.status == "RUNNING"


def test_a_deleted_mlflow_run_is_replaced(config: Config, folder: RunFolder) -> None:
    with Tracker(config, folder) as first:
        pass
    first.client.delete_run(first.run_id)
    assert Tracker(config, folder).run_id != first.run_id


def test_a_store_that_is_away_for_a_while_loses_nothing(
    config: Config, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tracker(config, folder) as tracker:
        write = tracker.client.log_batch

        def fail(*arguments: object, **options: object) -> None:
            raise MlflowException("away")

        monkeypatch.setattr(tracker.client, "log_batch", fail)
        tracker.log_epoch(EpochReport(epoch=1, epochs=2, step=1, metrics={"coco/AP": 0.5}, picture=None), None)
        monkeypatch.setattr(tracker.client, "log_batch", write)
    assert tracker.client.get_run(tracker.run_id).data.metrics["coco/AP"] == 0.5


def test_a_store_that_stays_away_is_said_when_all_else_is_done(
    config: Config, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise MlflowException("away")

    with pytest.raises(TrackingError, match="same command"), Tracker(config, folder) as tracker:
        monkeypatch.setattr(tracker.client, "set_terminated", fail)


def test_a_store_that_is_away_hides_no_other_error(
    config: Config, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise MlflowException("away")

    with pytest.raises(KeyboardInterrupt), Tracker(config, folder) as tracker:
        monkeypatch.setattr(tracker.client, "set_terminated", fail)
        raise KeyboardInterrupt


def test_artifacts_lie_beside_the_database(config: Config, folder: RunFolder, store: Path) -> None:
    with Tracker(config, folder) as tracker:
        artifacts = tracker.client.get_run(tracker.run_id).info.artifact_uri
    assert artifacts.startswith((store.parent / "mlruns").as_uri())


def test_a_deleted_experiment_is_refused_by_name(config: Config, folder: RunFolder, tiny_config: TinyConfig) -> None:
    uri = config.tracking.uri
    client = MlflowClient(uri)
    client.delete_experiment(client.create_experiment("gone"))
    other = tiny_config(f"output={config.output}", f"tracking.uri={uri}", "tracking.experiment=gone")
    with pytest.raises(TrackingError, match=r"'gone'.*is deleted"):
        Tracker(other, folder)


def test_a_server_that_is_not_there_is_refused_by_its_address(
    config: Config, folder: RunFolder, tiny_config: TinyConfig
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    other = tiny_config(f"output={config.output}", f"tracking.uri={uri}")
    with pytest.raises(TrackingError, match=uri):
        Tracker(other, folder)


def test_the_environments_store_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert resolve_uri(TrackingConfig()) == "http://elsewhere:5000"


def test_a_relative_database_is_the_same_from_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(TrackingConfig()) == f"sqlite:///{tmp_path}/mlflow.db"
    absolute = f"sqlite:///{tmp_path}/x.db?timeout=5"
    assert resolve_uri(TrackingConfig(uri=absolute)) == absolute


def test_names_keep_what_mlflow_allows() -> None:
    assert metric_name("coco/AP/awning-tricycle (2)") == "coco/AP/awning-tricycle _2_"
