"""The Ray session a training runs in, and whether what it asks for fits there."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import ray
from ray.util import placement_group_table

from mrqm.config import ScalingConfig


class ResourceError(ValueError):
    """A cluster that does not answer, or is too small for what is asked."""


@contextmanager
def ray_session() -> Iterator[None]:
    """A Ray session: the one this process has, else the cluster at RAY_ADDRESS, else one of its own on this machine.

    Raises:
        ResourceError: nothing answers at RAY_ADDRESS.
    """
    if ray.is_initialized():
        yield
        return
    _connect(os.environ.get("RAY_ADDRESS"))
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    # Workers speak to the user through `pipelines.events`; everything else they print is in Ray's own log files.
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        # A session of our own serves nobody else: no dashboard, no token that a later cluster
        # would stumble over, and nobody who takes its machine away.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        ray.init(address="local", include_dashboard=False, **quiet)
        return
    try:
        _knock(address)
        ray.init(address=address, **quiet)
    except (ConnectionError, TimeoutError, socket.gaierror) as error:
        raise ResourceError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there; start it, or unset RAY_ADDRESS to train on this "
            f"machine alone ({error})"
        ) from error


def _knock(address: str) -> None:
    """Raise within seconds what Ray would raise after minutes: an address may also be a word, such as `auto`."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def describe_resources(scaling: ScalingConfig) -> str:
    """What the workers reserve, in words: `2 workers × 1 CPU`."""
    gpu = " and 1 GPU" if scaling.use_gpu else ""
    return f"{_count(scaling.num_workers, 'worker')} × {_count(scaling.cpus_per_worker, 'CPU')}{gpu}"


def require_room(scaling: ScalingConfig) -> None:
    """Check that the cluster could run all workers at once if it were idle: Ray itself would wait for ever.

    Raises:
        ResourceError: it could not; the message says what it has and what was asked.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(_room(node, scaling) for node in nodes)
    if room >= scaling.num_workers:
        return
    kinds = Counter(
        f"{_count(int(node.get('CPU', 0)), 'CPU')}, {_count(int(node.get('GPU', 0)), 'GPU')}" for node in nodes
    )
    has = "; ".join(f"{_count(number, 'node')} with {kind}" for kind, number in kinds.items()) or "no nodes"
    raise ResourceError(
        f"{describe_resources(scaling)} were asked for, but the cluster has room for {_count(room, 'worker')}: it has "
        f"{has}; lower scaling.num_workers={scaling.num_workers} or scaling.cpus_per_worker={scaling.cpus_per_worker}, "
        + ("set scaling.use_gpu=false, " if scaling.use_gpu else "")
        + "or point RAY_ADDRESS at a larger cluster"
    )


def wait_for_room(scaling: ScalingConfig, say: Callable[[str], None]) -> None:
    """Wait until nobody else holds what the workers need, and say what is missing.

    Here and not in Ray Train: a driver that is killed while Ray Train waits can leave its reservation behind.
    """
    said = ""
    while shortage := _describe_shortage(scaling):
        if shortage != said:
            say(shortage)
            said = shortage
        time.sleep(2)


def _describe_shortage(scaling: ScalingConfig) -> str:
    """What is not free and who reserved it; empty if the workers can start."""
    free = ray.available_resources()
    wanted = {"CPU": scaling.num_workers * scaling.cpus_per_worker, "GPU": scaling.num_workers * scaling.use_gpu}
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


def _room(node: Mapping[str, float], scaling: ScalingConfig) -> int:
    """Workers that fit on one idle node."""
    room = int(node.get("CPU", 0) // scaling.cpus_per_worker)
    return min(room, int(node.get("GPU", 0))) if scaling.use_gpu else room


def _bundles(bundles: Mapping[int, Mapping[str, float]]) -> str:
    return " + ".join(",".join(f"{kind} {amount:g}" for kind, amount in b.items()) for b in bundles.values())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
