"""Ray's workers, forked: a raylet is given `ask_for_worker.py` to run in place of Ray's `setup_worker.py`."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partialmethod
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

from .forks import FORKS

ASKED_AT = "MRQM_TEST_FORKS"
"""Environment variable: the socket at which workers are asked for."""


@contextmanager
def forked_workers() -> Iterator[None]:
    """Ray nodes that this process and its commands start have forked workers, while the context is open."""
    with (
        tempfile.TemporaryDirectory(prefix="forks") as folder,
        socket.socket(socket.AF_UNIX) as listener,
        pytest.MonkeyPatch.context() as patch,
    ):
        listener.bind(f"{folder}/socket")
        listener.listen(64)
        forking = FORKS.Process(target=_fork_workers, args=(listener,))
        forking.start()
        patch.setenv(ASKED_AT, f"{folder}/socket")
        have_workers_forked(patch)
        try:
            yield
        finally:
            forking.terminate()
            forking.join()


def have_workers_forked(patch: pytest.MonkeyPatch) -> None:
    """Nodes that this process starts shall ask for their workers."""
    from ray._private.parameter import RayParams

    asking = str(Path(__file__).with_name("ask_for_worker.py"))
    unheard = {"include_log_monitor": False, "no_monitor": True}  # prints logs, which nobody reads; adds nodes
    patch.setattr(RayParams, "__init__", partialmethod(RayParams.__init__, setup_worker_path=asking, **unheard))


def _fork_workers(listener: socket.socket) -> None:
    """Fork a worker for everyone who asks."""
    forks, parent = multiprocessing.get_context("fork"), multiprocessing.parent_process()
    assert parent is not None
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers that end are gone at once, as under a raylet
    while parent.sentinel not in wait([listener, parent.sentinel]):
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as rest:
            _, files, _, _ = socket.recv_fds(connection, 1, 3)
            forks.Process(target=_become_worker, args=(files, json.load(rest))).start()
        for file in files:
            os.close(file)


def _become_worker(files: Sequence[int], given: Mapping[str, Any]) -> None:
    """What Ray's setup_worker.py does, and then the worker itself."""
    os.setpgid(0, 0)  # a raylet that is out of reach of signals to this group ends the whole group of a worker
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(given["environment"])
    os.chdir(given["folder"])

    from ray._private.runtime_env.context import RuntimeEnvContext
    from ray._private.workers.setup_worker import parser

    options, arguments = parser.parse_known_args(given["arguments"])
    os.environ.update(RuntimeEnvContext.deserialize(options.serialized_runtime_env_context or "{}").env_vars)
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")
