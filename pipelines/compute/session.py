"""A Ray session for one command."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray
from ray.exceptions import AuthenticationError

from mrqm.errors import UserError
from pipelines.compute.ray_errors import SilentAddressError, explain_start
from pipelines.compute.ray_internals import isolated_from_signals
from pipelines.process.signals import kept_handlers

TRAIN_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # notice a worker's death sooner than in 2 s
    # Workers without room, because a node died, are started again, as many as fit then: sooner than in 60 s, and after
    # Ray has counted the nodes again, every 20 s.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "22",
}


OWN_SESSION = {"RAY_AUTH_MODE": "disabled", "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
"""Settings of a session of its own, which no other user can reach: no token, and no watcher for lost machines."""


class ResourceError(UserError):
    """A cluster that does not answer, or has too few resources."""


@contextmanager
def ray_session() -> Iterator[None]:
    """Open a Ray session: that of this process, else the cluster at RAY_ADDRESS, else a new one on this machine.

    Raises:
        ResourceError: nothing answers at RAY_ADDRESS, or Ray does not start here.
    """
    if ray.is_initialized():
        with _defaults(TRAIN_SETTINGS):
            yield
        return
    address = os.environ.get("RAY_ADDRESS") or None  # empty counts as unset, as for Ray
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
    """Set missing environment variables while the context is open; the next session may need other ones."""
    missing = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def _connect(address: str | None) -> None:
    # Workers report through `pipelines.compute.messages`; all other output of theirs is in Ray's own log files.
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            with isolated_from_signals():
                ray.init(address="local", include_dashboard=False, **quiet)
        else:
            _check_reachable(address)
            ray.init(address=address, **quiet)
    except (OSError, RuntimeError, AuthenticationError) as error:
        raise ResourceError(explain_start(address, error)) from error


def _check_reachable(address: str) -> None:
    """Fail within seconds where Ray would fail after minutes; words such as `auto` are left to Ray."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            raise SilentAddressError(error) from error
