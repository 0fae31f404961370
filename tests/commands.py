"""Commands that tests run in forked processes."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import psutil
import pytest

from .forked_workers import ASKED_AT, have_workers_forked
from .forks import FORKS, become_command
from .waiting import PATIENCE, wait_until

NUMBERS = itertools.count()


class Command:
    """A process with a group of its own that runs `mrqm WORDS` in a folder; what it prints goes to files there."""

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
        """Signal the command alone."""
        os.kill(self._process.pid or 0, number)

    def send_to_group(self, number: signal.Signals) -> None:
        """Signal the command with what it started, as terminals, `timeout` and Slurm do."""
        os.killpg(self._process.pid or 0, number)

    def children(self) -> list[psutil.Process]:
        """The processes that it started, and these started."""
        return psutil.Process(self._process.pid).children(recursive=True) if self.runs() else []

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


def _run(folder: Path, files: tuple[Path, Path], words: Sequence[str], environment: Mapping[str, str]) -> None:
    """What the process of a command does."""
    os.setsid()
    from mrqm.__main__ import main

    usual = {"RAY_AUTH_MODE": "disabled", "COLUMNS": "160"}
    become_command(folder, *files, foreign=("RAY_", "MLFLOW_TRACKING"), environment={**environment, **usual})
    if ASKED_AT in os.environ:
        have_workers_forked(pytest.MonkeyPatch())
    sys.argv = ["mrqm", *words]
    main()


SIGNALS = pytest.mark.parametrize(
    ("number", "send"),
    [(number, send) for number in (signal.SIGTERM, signal.SIGINT) for send in (Command.send, Command.send_to_group)],
)
"""Every way in which a command is stopped from outside."""
CUT_SHORT = "stopped before everything was closed"
"""Printed by a command that did not end soon after a signal."""
