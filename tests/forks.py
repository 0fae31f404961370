"""Processes forked from one that has imported what takes seconds: without it, most of what tests on Ray cost.

Commands of tests are started so, and the workers of Ray nodes that tests start.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partialmethod
from multiprocessing.connection import wait
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from .waiting import PATIENCE, wait_until

NUMBERS = itertools.count()
ASKED_AT = "MRQM_TEST_FORKS"
"""Environment variable: the socket at which workers are asked for."""

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([  # not Ray, which reads its process's environment when it is imported
    "mrqm.__main__", "mrqm.trainer", "fsspec", "grpc", "jsonschema", "matplotlib.pyplot", "mlflow", "optuna", "pandas",
    "pyarrow.dataset", "pyarrow.fs", "pytest", "requests", "rich.progress", "sklearn", "sqlalchemy",
])  # fmt: skip


class Command:
    """A process of its own that runs `mrqm WORDS` in a folder; what it prints goes to files there."""

    def __init__(
        self, folder: Path, words: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        number = next(NUMBERS)
        self._files = folder / f"{number}.out", folder / f"{number}.err"
        for file in self._files:
            file.touch()
        self._read = 0
        asked_at = {name: os.environ[name] for name in [ASKED_AT] if name in os.environ}
        self._process = FORKS.Process(target=_run, args=(folder, self._files, words, {**environment, **asked_at}))
        self._process.start()

    @property
    def output(self) -> str:
        return self._files[0].read_text()

    @property
    def errors(self) -> str:
        return self._files[1].read_text()

    @property
    def said(self) -> str:
        """All that it printed."""
        return self.output + self.errors

    def wait_until(self, holds: Callable[[], object], what: str) -> None:
        """Wait until something holds, which the command must not end before."""
        wait_until(lambda: not self.runs() or holds(), what, lambda: self.said)
        assert self.runs() or holds(), f"ended before: {what}\n{self.said}"

    def wait_for(self, word: str) -> None:
        """Wait until a word is printed, after those that were waited for before."""
        self.wait_until(lambda: word in self.output[self._read :], f"{word!r} is printed")
        self._read = self.output.index(word, self._read) + len(word)

    def send(self, number: signal.Signals) -> None:
        os.kill(self._process.pid or 0, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def end(self) -> int:
        """Wait until it ends; returns its exit code."""
        self._process.join(PATIENCE)
        assert self._process.exitcode is not None, self.said
        return self._process.exitcode

    def runs(self) -> bool:
        return self._process.exitcode is None


def _run(folder: Path, files: Iterable[Path], words: Sequence[str], environment: Mapping[str, str]) -> None:
    """What the process of a command does."""
    from mrqm.__main__ import main

    for name in [name for name in os.environ if name.startswith(("RAY_", "MLFLOW_TRACKING"))]:
        del os.environ[name]
    os.environ.update(environment, RAY_AUTH_MODE="disabled", COLUMNS="160")
    if ASKED_AT in os.environ:
        _have_workers_forked(pytest.MonkeyPatch())
    os.chdir(folder)
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY), number)
    sys.argv = ["mrqm", *words]
    main()


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
        _have_workers_forked(patch)
        try:
            yield
        finally:
            forking.terminate()
            forking.join()


def _have_workers_forked(patch: pytest.MonkeyPatch) -> None:
    """For nodes that this process starts, put another program in the place of Ray's setup_worker.py."""
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
