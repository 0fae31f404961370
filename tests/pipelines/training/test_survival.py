"""Full disks, a killed server and a nonfinite loss during real trainings on a real Ray."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
from mlflow import MlflowClient
from typer.testing import CliRunner

from mrqm.__main__ import app
from mrqm.checkpoint.folder import load_model, load_training
from mrqm.config import Config, load_config
from mrqm.engine.progress import DivergenceError
from pipelines.training.driver import train

from ...disks import fill
from ...waiting import wait_until
from ..histories import assert_logged_once_in_order
from ..processes import WORKER, running, worker
from ..reservations import occupied
from ..servers.mlflow_server import MlflowServer
from ..watched import Log, press_ctrl_c, train_while
from ..workplace import SLOW_STEPS, Workplace

pytestmark = pytest.mark.ray


def test_a_full_disk_costs_checkpoints_and_nothing_else(
    ray_here: None, inside: Workplace, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(40 * 2**20)  # checkpoints of 8 MiB, of which one is kept
    overrides = [
        "name=full",
        f"output_dir={disk}",
        "train.num_checkpoints_to_keep=1",
        "scaling.num_workers=1",
        "train.epochs=20",
    ]
    config = load_config(inside.config_file, [*overrides, "train.checkpoint_minutes=null", "train.evaluate_every=5"])
    run, kept = disk / "full", list[str]()

    def action(log: Log) -> None:
        wait_until(lambda: any(run.glob("epoch_*/config.yaml")), "no checkpoint")
        filler = fill(disk)
        log.wait_for("could not be written, the training continues without it")
        kept.extend(path.name for path in run.glob("epoch_*"))
        newest = max(run.glob("epoch_*"))
        assert load_training(newest)["epoch"] == int(newest.name[-4:])
        load_model(newest, load_config(newest / "config.yaml"))
        wait_until(lambda: log.getvalue().count("could not be written, the training") > 2, "the training stopped")
        filler.unlink()

    summary, log = train_while(config, action)
    assert kept, log
    assert "No space left on device" in log
    assert summary.epoch <= 20
    assert (run / "epoch_0020" / "config.yaml").is_file()
    assert summary.complete
    run_id = inside.mlflow_run_in(run).info.run_id
    epochs = MlflowClient(summary.tracking_uri).get_metric_history(run_id, "epoch")
    assert len({metric.value for metric in epochs}) == len(epochs)


def test_a_server_that_dies_twice_is_told_everything_once(
    ray_here: None, inside: Workplace, mortal_server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    overrides = ["name=lonely", f"tracking.uri={mortal_server.uri}", "scaling.num_workers=1", "train.epochs=15"]
    config = load_config(inside.config_file, [*overrides, "train.evaluate_every=15", *SLOW_STEPS])

    def action(log: Log) -> None:
        log.wait_for("\n    2/15 ")
        mortal_server.stop()
        log.wait_for(  # the latter if it was answering
            "MLflow does not answer (nothing listens there)", "MLflow does not answer (the connection broke)"
        )
        passed = log.getvalue().count("/15 ")
        wait_until(lambda: log.getvalue().count("/15 ") > passed + 3, "the training waits for MLflow")
        stopped = worker()
        os.kill(stopped, signal.SIGSTOP)  # so that the server comes back within the training, however long that takes
        mortal_server.start()
        log.wait_for("MLflow answers again")
        mortal_server.stop()
        os.kill(stopped, signal.SIGCONT)

    summary, log = train_while(config, action)
    assert "\n   15/15 " in log
    assert summary.pending > 0 and summary.model_uri is None and not summary.complete

    mortal_server.start()
    again = train(config)
    assert again.complete and again.registered_as is not None
    assert_logged_once_in_order(mortal_server.uri, again.run_id, epochs=15)
    assert MlflowClient(mortal_server.uri).get_run(again.run_id).info.status == "FINISHED"


def test_a_loss_that_is_no_number_is_named_by_the_run_and_can_be_replayed(ray_here: None, inside: Workplace) -> None:
    config: Config = load_config(inside.config_file, ["name=wild", "scaling.num_workers=1", "optim.lr=1e25"])
    with pytest.raises(
        DivergenceError, match=r"not finite; kept for `mrqm replay .*wild/nonfinite_steps/step_0+\d/rank_\*`"
    ):
        train(config)
    (kept,) = (inside.folder / "runs" / "wild" / "nonfinite_steps").glob("step_*")
    run = inside.mlflow_run("wild")
    assert run.info.status == "FAILED"
    assert run.data.tags[f"divergence.{kept.name}"].endswith(f"not finite; kept in {kept}")
    assert run.data.tags["last_failure"].startswith(f"DivergenceError: step {int(kept.name[-6:])}")
    assert run.data.metrics["skipped_steps"] == 1
    divergence = json.loads((kept / "rank_0" / "divergence.json").read_text())
    result = CliRunner().invoke(app, ["replay", str(kept / "rank_0")])
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert f"step {divergence['step']}, rank 0: {', '.join(divergence['not_finite'])} not finite" in said
    assert "first part whose output is not finite: " in result.output


def test_sigterm_ends_a_training_that_waits_for_its_place(ray_here: None, workplace: Workplace) -> None:
    with occupied(int(ray.cluster_resources()["CPU"])):
        waiting = workplace.start("name=queued", RAY_ADDRESS=ray.get_runtime_context().gcs_address)
        waiting.wait_for("waiting for the cluster: 0 of 2 CPUs are free")
        waiting.send(signal.SIGTERM)
        assert waiting.end() == 130, waiting.said
    assert "the same command continues" in waiting.output
    assert "SIGTERM" not in waiting.said  # Ray's own handler prints a stack of addresses
    assert workplace.mlflow_run("queued").info.status == "KILLED"


def test_ctrl_c_ends_a_training_and_its_workers(ray_here: None, inside: Workplace) -> None:
    overrides = ["name=ended", "scaling.num_workers=2", "train.epochs=15", "train.evaluate_every=15", *SLOW_STEPS]

    def action(log: Log) -> None:
        log.wait_for("\n    1/15 ")
        press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        train_while(load_config(inside.config_file, overrides), action)
    assert inside.mlflow_run("ended").info.status == "KILLED"
    wait_until(lambda: not running(WORKER), "a worker goes on")
    wait_until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"], "a place stays taken")
