"""The main job as users run it: `mrqm train` in processes of its own, on a real Ray."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from rich.console import Console
from safetensors.torch import save_file

from mrqm.config import ConfigError, load_config
from mrqm.data import DataError
from mrqm.engine.trainer import Trainer
from mrqm.errors import UserError
from pipelines.compute.session import ResourceError
from pipelines.storage.run_dir import RunError
from pipelines.training.driver import train

from ..workplace import Workplace

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def finished(workplace: Workplace) -> "subprocess.CompletedProcess[str]":
    """A run of two workers and two epochs."""
    return workplace.run("train", "-c", str(workplace.config_file))


def test_a_run_ends_with_its_summary(finished: "subprocess.CompletedProcess[str]") -> None:
    assert finished.returncode == 0, finished.stderr
    for words in ("2/2", "AP50", "best checkpoint", "tiny-detector version 1", "mlflow ui", "mrqm evaluate runs/tiny/"):
        assert words in finished.stdout


def test_nothing_but_the_run_is_printed(finished: "subprocess.CompletedProcess[str]") -> None:
    assert finished.stderr == ""
    assert all("(RayTrainWorker" not in line and "INFO" not in line for line in finished.stdout.splitlines())


def test_the_run_is_in_mlflow(finished: "subprocess.CompletedProcess[str]", workplace: Workplace) -> None:
    run = workplace.mlflow_run("tiny")
    assert run.info.status == "FINISHED"
    assert run.data.params["scaling.num_workers"] == "2"
    assert {"train/loss", "train/images_per_second", "coco/AP", "coco/AP50", "epoch"} <= run.data.metrics.keys()
    assert run.data.tags["protocol.coco"].startswith("2 maxDets=1,10,100,500 ")
    assert len(run.data.tags["data.digest"]) == 64
    client = MlflowClient(f"sqlite:///{workplace.folder}/mlflow.db")
    pictures = {file.path for file in client.list_artifacts(run.info.run_id, "pictures")}
    assert pictures == {"pictures/epoch_0001.png", "pictures/epoch_0002.png"}
    assert [file.path for file in client.list_artifacts(run.info.run_id, "samples")] == ["samples/epoch_0000.png"]


def test_checkpoints_are_kept_by_epoch(finished: "subprocess.CompletedProcess[str]", workplace: Workplace) -> None:
    folder = workplace.folder / "runs" / "tiny"
    assert {path.name for path in folder.glob("epoch_*")} == {"epoch_0001", "epoch_0002"}
    assert {path.name for path in (folder / "epoch_0002").iterdir()} == {
        "config.yaml", "metrics.json", "model.safetensors", "training.pt"
    }  # fmt: skip


def test_the_registered_model_predicts(
    finished: "subprocess.CompletedProcess[str]", inside: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{inside.folder}/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/tiny-detector/1")
    images = list(np.random.default_rng(0).integers(0, 256, (2, 70, 90, 3), dtype=np.uint8))
    detections = model.predict(images)
    assert len(detections) == 2
    boxes = np.array(detections[0]["boxes"])
    assert boxes.shape == (len(detections[0]["scores"]), 4)
    assert (boxes >= 0).all() and (boxes <= [90, 70, 90, 70]).all()
    with pytest.raises(mlflow.exceptions.MlflowException):
        model.predict([image.astype(np.float32) for image in images])


def test_the_version_carries_its_metrics(finished: "subprocess.CompletedProcess[str]", workplace: Workplace) -> None:
    version = MlflowClient(f"sqlite:///{workplace.folder}/mlflow.db").get_model_version("tiny-detector", "1")
    summary = json.loads((workplace.folder / "runs" / "tiny" / "summary.json").read_text())
    assert float(version.tags["coco/AP"]) == pytest.approx(summary["metrics"]["coco/AP"], abs=1e-4)
    assert {"protocol.coco", "data.digest"} <= version.tags.keys()


def test_a_finished_run_is_not_trained_again(finished: "subprocess.CompletedProcess[str]", inside: Workplace) -> None:
    log = io.StringIO()
    summary = train(load_config(inside.config_file), Console(file=log))
    assert log.getvalue().startswith("run tiny is finished")
    assert summary.registered_as == "tiny-detector version 1"
    assert len(MlflowClient(summary.tracking_uri).search_model_versions("name = 'tiny-detector'")) == 1


def test_another_configuration_under_its_name_is_refused(
    finished: "subprocess.CompletedProcess[str]", inside: Workplace
) -> None:
    with pytest.raises(RunError, match=r"optim\.lr: was 0\.001, is now 0\.5"):
        train(load_config(inside.config_file, ["optim.lr=0.5"]))


def test_its_checkpoint_is_evaluated_to_the_same_metrics(
    finished: "subprocess.CompletedProcess[str]", workplace: Workplace
) -> None:
    result = workplace.run("evaluate", "runs/tiny/epoch_0002")
    metrics = json.loads((workplace.folder / "runs" / "tiny" / "epoch_0002" / "metrics.json").read_text())
    assert f"{metrics['coco/AP']:.3f}" in result.stdout, result.stderr


def test_a_run_begins_from_the_checkpoint_of_another(
    finished: "subprocess.CompletedProcess[str]", ray_here: None, inside: Workplace
) -> None:
    overrides = ["name=more", "train.epochs=3", "train.resume=runs/tiny/epoch_0002", "scaling.num_workers=1"]
    log = io.StringIO()
    summary = train(load_config(inside.config_file, overrides), Console(file=log))
    assert "continues after epoch 2" in log.getvalue()
    assert summary.epoch == 3


def test_a_run_starts_from_a_registered_detector_and_keeps_the_lineage(
    finished: "subprocess.CompletedProcess[str]", ray_here: None, inside: Workplace
) -> None:
    overrides = ["name=child", "train.epochs=1", "model.init=models:/tiny-detector/1", "scaling.num_workers=1"]
    log = io.StringIO()
    config = load_config(inside.config_file, overrides)
    summary = train(config, Console(file=log, width=200))
    assert f"init      models:/tiny-detector/1: {len(config.data.classes)} of " in log.getvalue()
    client = MlflowClient(summary.tracking_uri)
    parent = client.get_model_version("tiny-detector", "1").tags["checkpoint.sha256"]
    lineage = {
        "init.source": "models:/tiny-detector/1",
        "init.version": "tiny-detector/1",
        "init.sha256": parent,
        "init.classes": json.dumps(config.data.classes),
    }
    (child,) = client.search_model_versions(f"run_id='{summary.run_id}'")
    for tags in (client.get_run(summary.run_id).data.tags, child.tags):
        assert lineage.items() <= tags.items()
    shown = inside.run(
        "registry", "show", f"tiny-detector/{child.version}", f"tracking.uri={summary.tracking_uri}"
    ).stdout
    assert f"tiny-detector version 1, weights {parent[:12]}, {len(config.data.classes)} classes" in shown


def test_asynchronous_evaluation_scores_every_checkpoint_at_its_step(
    ray_here: None, inside: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    overrides = [
        "name=asynchronous",
        "evaluation.asynchronous=true",
        "scaling.num_workers=1",
        "train.num_checkpoints_to_keep=9",
    ]
    config = load_config(inside.config_file, overrides)
    summary = train(config, Console(file=io.StringIO()))
    assert "core_worker" not in capfd.readouterr().err  # Ray complains past all logging of what may not be restarted
    run = inside.mlflow_run("asynchronous")
    trainer = Trainer(config, torch.device("cpu"))
    for epoch in (1, 2):
        trainer.load(Path(f"runs/asynchronous/epoch_{epoch:04d}"))
        metrics = json.loads(Path(f"runs/asynchronous/epoch_{epoch:04d}/metrics.json").read_text())
        assert metrics["coco/AP"] == trainer.evaluate()["coco/AP"]
        assert metrics["train/loss"] > 0
    steps = MlflowClient(summary.tracking_uri).get_metric_history(run.info.run_id, "epoch")
    assert [(metric.step, metric.value) for metric in steps] == [(4, 1), (8, 2)]


def test_a_folder_that_is_no_checkpoint_cannot_be_resumed(inside: Workplace) -> None:
    with pytest.raises(ConfigError, match=r"train\.resume .*data: not a checkpoint folder"):
        train(load_config(inside.config_file, ["name=nothing", "train.resume=data"]))


def test_too_many_workers_are_refused_with_what_the_cluster_has(ray_here: None, inside: Workplace) -> None:
    config = load_config(inside.config_file, ["name=crowd", "scaling.num_workers=512", "train.batch_size=512"])
    with pytest.raises(ResourceError, match=r"512 workers × 1 CPU .* it has 1 node with \d+ CPU"):
        train(config)


def test_weights_that_do_not_fit_are_refused_before_ray_starts(inside: Workplace) -> None:
    save_file({"conv1.weight": torch.zeros(1)}, "other.safetensors")
    overrides = ["name=misfit", "model.backbone.weights=other.safetensors"]
    with pytest.raises(ConfigError, match=r"other\.safetensors: \d+ of \d+ tensors do not fit"):
        train(load_config(inside.config_file, overrides))
    assert not (inside.folder / "runs" / "misfit" / "mlflow.json").exists()


def test_what_only_workers_notice_is_said_as_they_say_it(ray_here: None, inside: Workplace) -> None:
    shutil.copytree("data", "torn")
    for image in Path("torn/train/images").iterdir():
        image.write_bytes(image.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"torn/train/images/.* does not decode") as raised:
        train(load_config(inside.config_file, ["name=torn", "data.root=torn", "scaling.num_workers=1"]))
    assert isinstance(raised.value, UserError)
    assert inside.mlflow_run("torn").info.status == "FAILED"
