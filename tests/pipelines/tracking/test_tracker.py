"""Against a real SQLite store; what a server answers is MLflow's own matter."""

import math
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_metric_name

from mrqm.config import Config, TrackingConfig
from mrqm.structures.step_report import StepReport
from pipelines.compute.messages import EpochReport, StepSkipped
from pipelines.storage.run_dir import RunFolder
from pipelines.tracking.errors import TrackingError
from pipelines.tracking.store import resolve_uri
from pipelines.tracking.tracker import Tracker, metric_name

from ..servers.mlflow_server import MlflowServer
from ..watched import wait_until

TinyConfig = Callable[..., Config]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Existing database, since creating one takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def config(tiny_config: TinyConfig, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tiny_config(f"output_dir={tmp_path}", f"tracking.uri=sqlite:///{store}")


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


def test_a_part_of_a_sweep_is_nested_and_tagged(config: Config, folder: RunFolder) -> None:
    with Tracker(config, folder, parent="abc123", tags={"sweep.trial": "7"}) as tracker:
        pass
    tags = tracker.client.get_run(tracker.run_id).data.tags
    assert (tags["mlflow.parentRunId"], tags["sweep.trial"]) == ("abc123", "7")


def test_metrics_are_written_at_their_steps(config: Config, folder: RunFolder) -> None:
    with Tracker(config, folder) as tracker:
        tracker.log_step(step(1, 3.0))
        tracker.log_step(step(2, 2.0))
        metrics = {"train/loss": 2.5, "coco/AP": 0.25, "coco/AP/odd|class": 0.5, "coco/AP_large": math.nan}
        tracker.log_epoch(EpochReport(epoch=1, epochs=2, step=2, metrics=metrics, picture=None, queries=None), {})
    history = tracker.client.get_metric_history(tracker.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 3.0), (2, 2.0)]
    logged = tracker.client.get_run(tracker.run_id).data.metrics
    assert (logged["coco/AP"], logged["coco/AP/odd_class"], logged["epoch"]) == (0.25, 0.5, 1)
    assert logged["train/epoch_loss"] == 2.5
    assert "coco/AP_large" not in logged


def test_pictures_are_artifacts(config: Config, folder: RunFolder) -> None:
    picture = folder.write_picture(1, b"of the first epoch")
    with Tracker(config, folder) as tracker:
        report = EpochReport(epoch=1, epochs=2, step=2, metrics={"train/loss": 2.5}, picture=b"", queries=None)
        tracker.log_epoch(report, {"pictures": picture})
    artifacts = tracker.client.list_artifacts(tracker.run_id, "pictures")
    assert [file.path for file in artifacts] == ["pictures/epoch_0001.png"]


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
            raise error("no use")
    run = tracker.client.get_run(tracker.run_id)
    assert run.info.status == status
    assert run.data.tags.get("last_failure") == ("ValueError: no use" if status == "FAILED" else None)


def test_a_step_that_taught_nothing_is_named(config: Config, folder: RunFolder) -> None:
    with Tracker(config, folder) as tracker:
        tracker.log_divergence(
            StepSkipped(step=7, what="loss not finite", folder="runs/tiny/nonfinite_steps/step_000007", steps=2)
        )
    run = tracker.client.get_run(tracker.run_id)
    assert run.data.tags["divergence.step_000007"] == "loss not finite; kept in runs/tiny/nonfinite_steps/step_000007"
    assert run.data.metrics["skipped_steps"] == 2


def test_a_continued_run_goes_on_in_its_mlflow_run(config: Config, folder: RunFolder) -> None:
    with pytest.raises(KeyboardInterrupt), Tracker(config, folder) as first:
        raise KeyboardInterrupt
    with Tracker(config, folder) as second:
        assert second.run_id == first.run_id
        assert second.arrived()
        assert second.client.get_run(second.run_id).info.status == "RUNNING"


def test_a_deleted_mlflow_run_is_replaced(config: Config, folder: RunFolder) -> None:
    with Tracker(config, folder) as first:
        pass
    first.client.delete_run(first.run_id)
    with Tracker(config, folder) as second:
        assert second.run_id != first.run_id


def test_a_continued_run_needs_no_store(
    config: Config,
    folder: RunFolder,
    tiny_config: TinyConfig,
    mortal_server: MlflowServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tiny_config(f"output_dir={config.output_dir}", f"tracking.uri={mortal_server.uri}")
    with Tracker(config, folder) as first:
        first.log_step(step(1, 3.0))
    mortal_server.stop()
    with pytest.raises(KeyboardInterrupt), Tracker(config, folder) as second:
        second.log_step(step(2, 2.0))
        raise KeyboardInterrupt
    assert second.run_id == first.run_id
    assert second.pending == 3  # it runs, it has a loss, it was stopped
    assert "until it answers, reports are kept in" in caplog.text
    assert "repeat the command to send them" in caplog.text
    mortal_server.start()
    with Tracker(config, folder) as third:
        pass
    assert third.pending == 0
    history = third.client.get_metric_history(third.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 3.0), (2, 2.0)]


def test_a_server_that_is_away_is_not_waited_for(
    config: Config,
    folder: RunFolder,
    tiny_config: TinyConfig,
    mortal_server: MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The long patience applies only to a server that answers."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("pipelines.tracking.tracker.PATIENCE", 1e5)
    monkeypatch.setattr("pipelines.tracking.tracker.SHORT_PATIENCE", 0.1)
    config = tiny_config(f"output_dir={config.output_dir}", f"tracking.uri={mortal_server.uri}")
    with Tracker(config, folder) as tracker:
        assert tracker.arrived()
        mortal_server.stop()
        tracker.log_epoch(EpochReport(epoch=1, epochs=2, step=2, metrics={"train/loss": 2.5}, picture=None), {})
        wait_until(lambda: "MLflow does not answer" in caplog.text, "nobody noticed")
        assert not tracker.arrived()
    assert tracker.pending


def test_artifacts_lie_beside_the_database(config: Config, folder: RunFolder, store: Path) -> None:
    with Tracker(config, folder) as tracker:
        artifacts = tracker.client.get_run(tracker.run_id).info.artifact_uri
    assert artifacts.startswith((store.parent / "mlruns").as_uri())


def test_a_deleted_experiment_is_refused_by_name(config: Config, folder: RunFolder, tiny_config: TinyConfig) -> None:
    uri = config.tracking.uri
    client = MlflowClient(uri)
    client.delete_experiment(client.create_experiment("gone"))
    other = tiny_config(f"output_dir={config.output_dir}", f"tracking.uri={uri}", "tracking.experiment=gone")
    with pytest.raises(TrackingError, match=r"'gone'.*is deleted"):
        Tracker(other, folder)


def test_a_server_that_is_not_there_is_refused_by_its_address(
    config: Config, folder: RunFolder, tiny_config: TinyConfig
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    other = tiny_config(f"output_dir={config.output_dir}", f"tracking.uri={uri}")
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
    for name in (
        "coco/AP/..",
        "coco/AP/",
        "/",
        "a//b",
        "./a",
        "coco/AP/\n'\"%",
        "coco/AP/" + "x" * 300,
        "coco/AP/模型",
    ):
        _validate_metric_name(metric_name(name))
