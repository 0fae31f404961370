"""Nodes that die, return and are preempted during a training, in a real cluster of two on this machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from ray.cluster_utils import Cluster

from mrqm.checkpoint.folder import load_training
from mrqm.config import load_config
from pipelines.compute.session import ray_session
from pipelines.storage.run_summary import Summary

from ...forked_workers import forked_workers
from ...waiting import WATCHFUL, wait_until
from ..histories import assert_logged_once_in_order
from ..processes import running
from ..reservations import reservation_states
from ..watched import Log, press_ctrl_c, train_while
from ..workplace import SLOW_STEPS, Workplace
from .uninterrupted import assert_as_if_uninterrupted

pytestmark = pytest.mark.ray

CONTROLLER = re.compile("TrainController")
IMAGES = 8


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    """A node of one CPU, and this process in its cluster."""
    with forked_workers(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "0.5")
        patch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "5")
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": WATCHFUL},
            shutdown_at_exit=False,  # would need signal handlers, which only the main thread may set
        )
        try:
            patch.setenv("RAY_ADDRESS", cluster.address)
            with ray_session():
                yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture
def cluster(head: Cluster) -> Cluster:
    """Two nodes of one CPU each; the second is restarted if the previous test killed it."""
    if not head.worker_nodes:
        head.add_node(num_cpus=1)
    return head


def kill(node: Any) -> None:
    """Kill a node, its raylet first, so that no process can sign off."""
    node.kill_raylet(check_alive=False)
    node.kill_all_processes(check_alive=False, allow_graceful=False)


def assert_every_image_once_an_epoch(summary: Summary, epochs: int) -> None:
    training = load_training(Path(summary.folder) / f"epoch_{epochs:04d}")
    assert training["progress"]["images_seen"] == epochs * IMAGES


def interruptions_of(summary: Summary) -> list[dict[str, object]]:
    lines = (Path(summary.folder) / "interruptions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_node_that_dies_and_comes_back_changes_nothing(cluster: Cluster, inside: Workplace, tmp_path: Path) -> None:
    overrides = ["name=pair", "scaling.num_workers=2", "train.epochs=20", "train.evaluate_every=20"]
    overrides += ["train.checkpoint_minutes=0.004"]
    config = load_config(inside.config_file, overrides)

    def action(log: Log) -> None:
        log.wait_for("\n    2/20 ")
        kill(cluster.worker_nodes.pop())
        log.wait_for("waiting for nodes: the cluster has room for 1 of 2 workers")
        cluster.add_node(num_cpus=1)
        log.wait_for("continues after epoch")
        log.wait_for(" s lost: worker ")

    summary, log = train_while(config, action)
    print(log)
    assert summary.complete
    assert_logged_once_in_order(summary.tracking_uri, summary.run_id, epochs=20)
    metrics = inside.mlflow_run("pair").data.metrics
    interruptions = interruptions_of(summary)
    assert metrics["restarts"] == len(interruptions) >= 1
    assert metrics["seconds_lost"] == sum(interruption["seconds_lost"] for interruption in interruptions) > 0
    artifacts = MlflowClient(summary.tracking_uri).list_artifacts(summary.run_id)
    assert "interruptions.jsonl" in {file.path for file in artifacts}
    assert_every_image_once_an_epoch(summary, epochs=20)
    assert_as_if_uninterrupted(config, summary, tmp_path, ranks=2)


def test_a_node_that_is_taken_away_leaves_a_checkpoint_and_one_worker(cluster: Cluster, inside: Workplace) -> None:
    overrides = ["name=spot", "scaling.num_workers=[1,2]", "train.epochs=15", "train.evaluate_every=15", *SLOW_STEPS]
    overrides += ["train.checkpoint_minutes=null"]  # within an epoch only the notice makes one
    config = load_config(inside.config_file, overrides)
    run = inside.folder / "runs" / "spot"

    def action(log: Log) -> None:
        log.wait_for("\n    2/15 ")
        node = cluster.worker_nodes.pop()
        notice = [
            "--reason",
            "DRAIN_NODE_REASON_PREEMPTION",
            "--reason-message",
            "taken",
            "--deadline-remaining-seconds",
        ]
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", cluster.address]
        subprocess.run([*command, "--node-id", node.node_id, *notice, "10"], check=True)
        log.wait_for("the cluster is preempting a node: saving a checkpoint")
        wait_until(lambda: any(run.glob("epoch_*_step_*/config.yaml")), "no checkpoint was saved")
        kill(node)
        log.wait_for("continues after epoch")
        log.wait_for(" s lost: ")

    summary, log = train_while(config, action)
    print(log)
    assert summary.complete
    assert_logged_once_in_order(summary.tracking_uri, summary.run_id, epochs=15)
    assert_every_image_once_an_epoch(summary, epochs=15)
    assert inside.mlflow_run("spot").data.metrics["restarts"] >= 1


def test_ctrl_c_ends_a_training_that_waits_for_a_node(cluster: Cluster, inside: Workplace) -> None:
    overrides = ["name=waiting", "scaling.num_workers=2", "train.epochs=15", "train.evaluate_every=15", *SLOW_STEPS]

    def action(log: Log) -> None:
        log.wait_for("\n    1/15 ")
        kill(cluster.worker_nodes.pop())
        log.wait_for("waiting for nodes: the cluster has room for 1 of 2 workers; Ctrl-C stops")
        press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        train_while(load_config(inside.config_file, overrides), action)
    assert inside.mlflow_run("waiting").info.status == "KILLED"
    wait_until(lambda: not running(CONTROLLER), "Ray Train's controller goes on")
    wait_until(lambda: reservation_states() == {"REMOVED"}, "a place stays reserved")
