"""The Ray session a training runs in, and whether what it asks for fits there."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import ray
from ray.exceptions import AuthenticationError
from ray.util import placement_group_table

from mrqm.config import ScalingConfig
from pipelines import TRAIN_V1_WANTED, TRAIN_V2
from pipelines.ray_errors import SilentAddressError, explain_start
from pipelines.ray_start import isolated_from_signals
from pipelines.stopping import kept_handlers

TRAIN_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a worker's death is noticed sooner than in 2 s
    # Workers that find no room, because a node died, are tried anew with as many as there is room for then: sooner than
    # in 60 s, and after Ray has counted the nodes again, which it does every 20 s.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "22",
}
OWN_SESSION = {"RAY_AUTH_MODE": "disabled", "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
"""A session of our own serves nobody else: no token, and nobody who takes its machine away."""


logger = logging.getLogger(__name__)


class ResourceError(ValueError):
    """A cluster that does not answer, or is too small for what is asked."""


@contextmanager
def ray_session() -> Iterator[None]:
    """A Ray session: the one this process has, else the cluster at RAY_ADDRESS, else one of its own on this machine.

    Raises:
        ResourceError: nothing answers at RAY_ADDRESS.
    """
    if TRAIN_V1_WANTED:
        logger.warning("%s=0 is ignored: mrqm trains by the second version of Ray Train", TRAIN_V2)
    if ray.is_initialized():
        with _defaults(TRAIN_SETTINGS):
            yield
        return
    address = os.environ.get("RAY_ADDRESS")
    with _defaults(TRAIN_SETTINGS if address else TRAIN_SETTINGS | OWN_SESSION):
        try:
            with kept_handlers():
                _connect(address)
            yield
        finally:
            with kept_handlers():
                ray.shutdown()


@contextmanager
def _defaults(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that are not set, while the context is open: the next session may be another's."""
    missing = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def _connect(address: str | None) -> None:
    # Workers speak to the user through `pipelines.events`; everything else they print is in Ray's own log files.
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            with isolated_from_signals():
                ray.init(address="local", include_dashboard=False, **quiet)
        else:
            _knock(address)
            ray.init(address=address, **quiet)
    except (OSError, RuntimeError, AuthenticationError) as error:
        raise ResourceError(explain_start(address, error)) from error


def _knock(address: str) -> None:
    """Raise within seconds what Ray would raise after minutes: an address may also be a word, such as `auto`."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            raise SilentAddressError(error) from error


def describe_resources(scaling: ScalingConfig) -> str:
    """What the workers reserve, in words: `2 workers × 1 CPU`."""
    gpu = " and 1 GPU" if scaling.use_gpu else ""
    workers = _count(scaling.max_workers, "worker")
    if scaling.min_workers < scaling.max_workers:
        workers = f"{scaling.min_workers} to {workers}"
    return f"{workers} × {_count(scaling.cpus_per_worker, 'CPU')}{gpu}"


def cluster_nodes() -> list[Mapping[str, float]]:
    """Resources of every node of the cluster that this process has joined."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def require_room(scaling: ScalingConfig, beside: int = 0) -> None:
    """Check that the cluster could run the fewest workers at once if it were idle: Ray itself would wait for ever.

    Args:
        scaling: of the workers.
        beside: further processes that need what a worker needs.

    Raises:
        ResourceError: it could not; the message says what it has and what was asked.
    """
    room = room_on(cluster_nodes(), scaling)
    if room >= scaling.min_workers + beside:
        return
    kinds = Counter(
        f"{_count(int(node.get('CPU', 0)), 'CPU')}, {_count(int(node.get('GPU', 0)), 'GPU')}"
        for node in cluster_nodes()
    )
    has = "; ".join(f"{_count(number, 'node')} with {kind}" for kind, number in kinds.items()) or "no nodes"
    evaluation = ", and the same for evaluation.beside_training," if beside else ""
    raise ResourceError(
        f"{describe_resources(scaling)}{evaluation} were asked for, but the cluster has room for "
        f"{_count(room, 'worker')}: it has {has}; lower scaling.num_workers={scaling.num_workers} or "
        f"scaling.cpus_per_worker={scaling.cpus_per_worker}, "
        + ("set scaling.use_gpu=false, " if scaling.use_gpu else "")
        + "or point RAY_ADDRESS at a larger cluster"
    )


def describe_missing(scaling: ScalingConfig, beside: int = 0) -> str:
    """What the fewest workers could not have even if the cluster were idle, as when a node died; empty if nothing."""
    needed, room = scaling.min_workers + beside, room_on(cluster_nodes(), scaling)
    if room >= needed:
        return ""
    return f"waiting for nodes: the cluster has room for {room} of {needed} workers"


def shortages(scaling: ScalingConfig, beside: int = 0) -> Iterator[str]:
    """What is missing, whenever that changes, until nobody else holds what the fewest workers need.

    Here and not in Ray Train: a driver that is killed while Ray Train waits can leave its reservation behind.
    """
    said = ""
    while shortage := describe_shortage(scaling, beside):
        if shortage != said:
            yield shortage
            said = shortage
        time.sleep(1)


def describe_shortage(scaling: ScalingConfig, beside: int = 0) -> str:
    """What is not free and who reserved it; empty if the workers can start."""
    free = ray.available_resources()
    processes = scaling.min_workers + beside
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
    """Workers that fit on idle nodes together, given their resources by Ray's names."""
    return sum(room_of(node, scaling) for node in nodes)


def room_of(node: Mapping[str, float], scaling: ScalingConfig) -> int:
    """Workers that fit on one idle node, given its resources by Ray's names."""
    room = int(node.get("CPU", 0) // scaling.cpus_per_worker)
    return min(room, int(node.get("GPU", 0))) if scaling.use_gpu else room


def _bundles(bundles: Mapping[int, Mapping[str, float]]) -> str:
    return " + ".join(",".join(f"{kind} {amount:g}" for kind, amount in b.items()) for b in bundles.values())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
