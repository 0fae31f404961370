"""Sweeps on a cluster of two nodes that they share with others, and that fails."""

from __future__ import annotations

import io
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from ray.cluster_utils import Cluster
from rich.console import Console

from mrqm.config import Config
from mrqm.engine.trainer import Trainer
from pipelines.compute.session import ResourceError
from tune.context import Request
from tune.space.schema import load_space, sweep_config
from tune.state.records import Lost
from tune.sweep import sweep

from ..pipelines.processes import WORKER, running
from ..pipelines.reservations import occupied, reservation_states
from ..pipelines.servers.mlflow_server import MlflowServer
from ..waiting import WATCHFUL, wait_until
from .workplace import TRIAL, Workplace, leaves_nothing, start_cluster

TinyConfig = Callable[..., Config]

AWAY = r"MLflow(: nothing listens there| does not answer)"
"""Said by the one that notices first: a trial's run, or the thread that sends."""
pytestmark = pytest.mark.ray

SPACE = """
objective: {{metric: train/loss, mode: min}}
search: {{algorithm: random}}
scheduler: {{algorithm: none}}
budget: {{trials: {trials}}}
fixed: {{train.epochs: {epochs}, train.evaluate_every: 9}}
parameters:
  loss.one_to_many.dense_loss_weight: {{uniform: [0.5, 2]}}
"""
EPOCHS = 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes of one CPU each, and this process in it."""
    with start_cluster(num_cpus=1, _system_config=WATCHFUL) as cluster:
        cluster.add_node(num_cpus=1)
        yield cluster


@pytest.fixture
def workplace(place: Path, cluster: Cluster) -> Iterator[Workplace]:
    (place / "short.yaml").write_text(SPACE.format(trials=2, epochs=2))
    (place / "long.yaml").write_text(SPACE.format(trials=3, epochs=EPOCHS))
    found = Workplace(place, cluster.address)
    yield found
    found.close()


def test_two_sweeps_and_a_training_share_a_cluster(workplace: Workplace, cluster: Cluster) -> None:
    """Five trials and trainings for two CPUs: all get their turn, and nothing is left behind."""
    commands = [
        workplace.tune("one", "short"),
        workplace.tune("two", "short"),
        workplace.start("train", "-c", "tiny.yaml", "name=training"),
    ]
    for command in commands:
        assert command.end() == 0, command.said
    for name in ("one", "two"):
        assert [trial.state for trial in workplace.history(name).trials] == ["finished"] * 2
        assert len(workplace.children(name)) == 2
    wait_until(leaves_nothing, "nothing is reserved")


def test_a_trial_that_needs_more_than_the_cluster_has_is_refused(workplace: Workplace, cluster: Cluster) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace.folder)
        request = Request(Path("tiny.yaml"), Path("short.yaml"), ["name=huge", "scaling.cpus_per_worker=2"])
        with pytest.raises(ResourceError, match=r"1 worker × 2 CPUs were requested, .* 2 nodes with 1 CPU"):
            sweep(request, Console(file=io.StringIO()))
    assert leaves_nothing()


def test_a_sweep_outlives_its_processes_a_node_and_mlflow(
    workplace: Workplace, cluster: Cluster, server: MlflowServer
) -> None:
    """Everything but the driver dies once; every trial has every epoch once, and is what it would have been alone."""
    command = workplace.tune("battered", "long", MLFLOW_TRACKING_URI=server.uri)

    def reports() -> Counter[int]:
        return Counter(report.trial for report in workplace.reports("battered"))

    def wait_until_both_go_on() -> None:
        before = reports()
        command.wait_until(lambda: len(reports() - before) >= 2, "two trials go on")

    wait_until_both_go_on()
    os.kill(running(TRIAL)[0], signal.SIGKILL)
    command.wait_until(lambda: len(lost_trials(workplace, "battered")) == 1, "a process was lost")
    server.stop()
    wait_until_both_go_on()
    cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
    command.wait_until(lambda: len(lost_trials(workplace, "battered")) == 2, "a node was lost")
    command.wait_until(lambda: re.search(AWAY, command.output), "the sweep says that MLflow is away")
    server.start()
    cluster.add_node(num_cpus=1)
    assert command.end() == 0, command.said
    assert "resumes from its last checkpoint" in command.output

    trials = workplace.history("battered").trials
    assert [[report.epoch for report in trial.results] for trial in trials] == [list(range(1, EPOCHS + 1))] * 3
    children, client = workplace.children("battered", server.uri), MlflowClient(server.uri)
    for trial in trials:
        run = children[trial.name]
        assert run.data.tags["sweep.state"] == "finished"
        epochs = client.get_metric_history(run.info.run_id, "epoch")
        assert sorted(metric.value for metric in epochs) == list(range(1, EPOCHS + 1))
    lost = trials[lost_trials(workplace, "battered")[0]]
    alone = train_alone(workplace, lost.params["loss.one_to_many.dense_loss_weight"])
    assert [report.metrics["train/loss"] for report in lost.results] == alone
    wait_until(leaves_nothing, "nothing is reserved")


def test_sweeps_that_wait_for_others_say_so_and_leave_nothing_when_they_are_killed(
    workplace: Workplace, cluster: Cluster
) -> None:
    """One CPU is somebody else's: a trial of a sweep waits, and then all of a sweep whose trials take two."""
    with occupied(1):
        killed = workplace.tune("killed", "long")
        killed.wait_until(lambda: workplace.reports("killed"), "one runs")
        killed.wait_until(lambda: "PENDING" in reservation_states(), "another waits")
        killed.kill()
        wait_until(leaves_nothing, "nothing is reserved")

        wide = workplace.tune("wide", "short", "scaling.num_workers=2")
        wide.wait_for("waiting for the cluster: 1 of 2 CPUs are free")
    wide.wait_until(lambda: workplace.reports("wide"), "the first epoch")
    os.kill(running(WORKER)[0], signal.SIGKILL)
    assert wide.end() == 0, wide.said
    assert len(lost_trials(workplace, "wide")) == 1
    trials = workplace.history("wide").trials
    assert [[report.epoch for report in trial.results] for trial in trials] == [[1, 2]] * 2
    wait_until(leaves_nothing, "nothing is reserved")


def lost_trials(workplace: Workplace, name: str) -> list[int]:
    return [entry.trial for entry in workplace.history(name).entries if isinstance(entry, Lost)]


def train_alone(workplace: Workplace, weight: float) -> list[float]:
    """Losses of a trial's epochs in one plain process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace.folder)
        space = load_space("long.yaml").model_copy(update={"parameters": {}})
        config = sweep_config("tiny.yaml", space, [f"loss.one_to_many.dense_loss_weight={weight}"])
        torch.set_num_threads(config.scaling.cpus_per_worker)
        trainer = Trainer(config, torch.device("cpu"))
        return [trainer.train_epoch()["loss"] for _ in range(config.train.epochs)]
