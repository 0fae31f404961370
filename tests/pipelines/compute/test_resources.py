from collections.abc import Callable
from typing import Any

import pytest
import ray

from mrqm.config import ScalingConfig
from pipelines.compute import resources
from pipelines.compute.resources import describe_missing, describe_resources, require_room, shortages
from pipelines.compute.session import ResourceError

Cluster = Callable[..., None]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Pretend that the cluster has these nodes."""

    def pretend(*nodes: dict[str, float]) -> None:
        monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])

    return pretend


def test_workers_that_fit_are_let_through(cluster: Cluster) -> None:
    cluster({"CPU": 4.0}, {"CPU": 2.0})
    require_room(ScalingConfig(num_workers=3, cpus_per_worker=2))


def test_a_worker_does_not_spread_over_nodes(cluster: Cluster) -> None:
    cluster({"CPU": 3.0}, {"CPU": 3.0})
    with pytest.raises(ResourceError, match="room for 2 workers"):
        require_room(ScalingConfig(num_workers=3, cpus_per_worker=2))


def test_too_many_workers_are_refused_with_what_the_cluster_has(cluster: Cluster) -> None:
    cluster({"CPU": 2.0})
    with pytest.raises(ResourceError, match=r"64 workers × 1 CPU .*1 node with 2 CPUs, 0 GPUs.*scaling.num_workers"):
        require_room(ScalingConfig(num_workers=64))


def test_gpus_that_are_not_there_are_refused(cluster: Cluster) -> None:
    cluster({"CPU": 8.0})
    with pytest.raises(ResourceError, match=r"1 GPU.*0 GPUs"):
        require_room(ScalingConfig(use_gpu=True))


def test_each_worker_needs_a_gpu_of_its_own(cluster: Cluster) -> None:
    cluster({"CPU": 8.0, "GPU": 2.0})
    require_room(ScalingConfig(num_workers=2, use_gpu=True))
    with pytest.raises(ResourceError, match="room for 2 workers"):
        require_room(ScalingConfig(num_workers=3, use_gpu=True))


def test_what_a_dead_node_leaves_no_room_for_is_said(cluster: Cluster) -> None:
    cluster({"CPU": 2})
    assert (
        describe_missing(ScalingConfig(num_workers=3)) == "waiting for nodes: the cluster has room for 2 of 3 workers"
    )
    assert describe_missing(ScalingConfig(num_workers=(1, 3))) == ""
    assert describe_missing(ScalingConfig(num_workers=2), extra_workers=1) != ""


def test_dead_nodes_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": False, "Resources": {"CPU": 8.0}}])
    with pytest.raises(ResourceError, match="no nodes"):
        require_room(ScalingConfig())


def test_waiting_says_what_is_missing_and_who_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    free: Any = iter([{"CPU": 0.0}, {"CPU": 0.0}, {"CPU": 2.0}])
    reserved = {"abc": {"state": "CREATED", "bundles": {0: {"CPU": 1.0}, 1: {"CPU": 1.0}}}}
    monkeypatch.setattr(ray, "available_resources", lambda: next(free))
    monkeypatch.setattr(resources, "placement_group_table", lambda: reserved)
    monkeypatch.setattr(resources.time, "sleep", lambda seconds: None)
    assert list(shortages(ScalingConfig(num_workers=2))) == [
        "waiting for the cluster: 0 of 2 CPUs are free; reserved by placement groups abc (CPU 1 + CPU 1)"
    ]


def test_resources_are_described_in_words() -> None:
    assert describe_resources(ScalingConfig(num_workers=1)) == "1 worker × 1 CPU"
    assert describe_resources(ScalingConfig(num_workers=2, cpus_per_worker=4, use_gpu=True)) == (
        "2 workers × 4 CPUs and 1 GPU"
    )


def test_equal_nodes_are_counted(cluster: Cluster) -> None:
    cluster(*[{"CPU": 4.0, "GPU": 1.0}] * 3, {"CPU": 1.0})
    with pytest.raises(ResourceError, match="3 nodes with 4 CPUs, 1 GPU; 1 node with 1 CPU, 0 GPUs"):
        require_room(ScalingConfig(num_workers=8, cpus_per_worker=2))
