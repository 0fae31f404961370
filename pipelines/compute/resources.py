"""The resources of a training's workers, compared with those of the cluster."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import ray
from ray.util import placement_group_table

from mrqm.config import ScalingConfig
from pipelines.compute.session import ResourceError

logger = logging.getLogger(__name__)


def describe_resources(scaling: ScalingConfig) -> str:
    """Describe the resources that the workers reserve: `2 workers × 1 CPU`."""
    gpu = " and 1 GPU" if scaling.use_gpu else ""
    workers = _count(scaling.max_workers, "worker")
    if scaling.min_workers < scaling.max_workers:
        workers = f"{scaling.min_workers} to {workers}"
    return f"{workers} × {_count(scaling.cpus_per_worker, 'CPU')}{gpu}"


def cluster_nodes() -> list[Mapping[str, float]]:
    """Return the resources of every node of the cluster that this process is connected to, by Ray's names."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def require_room(scaling: ScalingConfig, extra_workers: int = 0) -> None:
    """Check that the idle cluster could run the fewest workers at the same time; Ray itself would wait for ever.

    Args:
        scaling: number and resources of the workers.
        extra_workers: number of further processes with the resources of a worker.

    Raises:
        ResourceError: the cluster is too small; the message names its resources and the required ones.
    """
    room = room_on(cluster_nodes(), scaling)
    if room >= scaling.min_workers + extra_workers:
        return
    kinds = Counter(
        f"{_count(int(node.get('CPU', 0)), 'CPU')}, {_count(int(node.get('GPU', 0)), 'GPU')}"
        for node in cluster_nodes()
    )
    has = "; ".join(f"{_count(number, 'node')} with {kind}" for kind, number in kinds.items()) or "no nodes"
    evaluation = ", and the same for evaluation.asynchronous," if extra_workers else ""
    raise ResourceError(
        f"{describe_resources(scaling)}{evaluation} were requested, but the cluster has room for "
        f"{_count(room, 'worker')}: it has {has}; lower scaling.num_workers={scaling.num_workers} or "
        f"scaling.cpus_per_worker={scaling.cpus_per_worker}, "
        + ("set scaling.use_gpu=false, " if scaling.use_gpu else "")
        + "or point RAY_ADDRESS at a larger cluster"
    )


def describe_missing(scaling: ScalingConfig, extra_workers: int = 0) -> str:
    """Describe the missing nodes, if even an idle cluster could not run the fewest workers, as after a node's death.

    Args:
        scaling: number and resources of the workers.
        extra_workers: number of further processes with the resources of a worker.

    Returns:
        The description; empty if no node is missing.
    """
    needed, room = scaling.min_workers + extra_workers, room_on(cluster_nodes(), scaling)
    if room >= needed:
        return ""
    return f"waiting for nodes: the cluster has room for {room} of {needed} workers"


def shortages(scaling: ScalingConfig, extra_workers: int = 0) -> Iterator[str]:
    """Wait until the fewest workers can start.

    Ray Train could wait too, but a driver that is killed meanwhile can leave its reservation behind.

    Args:
        scaling: number and resources of the workers.
        extra_workers: number of further processes with the resources of a worker.

    Yields:
        Descriptions of the missing resources, whenever these change.
    """
    before = ""
    while shortage := describe_shortage(scaling, extra_workers):
        if shortage != before:
            yield shortage
            before = shortage
        time.sleep(1)


def describe_shortage(scaling: ScalingConfig, extra_workers: int = 0) -> str:
    """Describe the resources that are not free and their holders.

    Args:
        scaling: number and resources of the workers.
        extra_workers: number of further processes with the resources of a worker.

    Returns:
        The description; empty if the fewest workers can start.
    """
    free = ray.available_resources()
    processes = scaling.min_workers + extra_workers
    wanted = {"CPU": processes * scaling.cpus_per_worker, "GPU": processes * scaling.use_gpu}
    short = [f"{free.get(kind, 0):g} of {need} {kind}s" for kind, need in wanted.items() if free.get(kind, 0) < need]
    if not short:
        return ""
    holders = [
        f"{key} ({_bundles(group['bundles'])})"
        for key, group in placement_group_table().items()
        if group["state"] != "REMOVED"
    ]
    held = f"; reserved by placement groups {', '.join(holders)}" if holders else ""
    return f"waiting for the cluster: {' and '.join(short)} are free{held}"


def room_on(nodes: Iterable[Mapping[str, float]], scaling: ScalingConfig) -> int:
    """Count the workers that fit on idle nodes together.

    Args:
        nodes: resources of each node, by Ray's names.
        scaling: resources of a worker.

    Returns:
        Number of workers.
    """
    return sum(room_of(node, scaling) for node in nodes)


def room_of(node: Mapping[str, float], scaling: ScalingConfig) -> int:
    """Count the workers that fit on one idle node.

    Args:
        node: resources of the node, by Ray's names.
        scaling: resources of a worker.

    Returns:
        Number of workers.
    """
    room = int(node.get("CPU", 0) // scaling.cpus_per_worker)
    return min(room, int(node.get("GPU", 0))) if scaling.use_gpu else room


def _bundles(bundles: Mapping[int, Mapping[str, float]]) -> str:
    return " + ".join(",".join(f"{kind} {amount:g}" for kind, amount in b.items()) for b in bundles.values())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
