"""A pseudo-terminal for commands that prompt."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..waiting import PATIENCE


class Terminal:
    """A command in a pseudo-terminal of its own."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.screen, inside = os.openpty()
        self.shown, self._waited = "", 0
        self.process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdin=inside, stdout=inside, stderr=inside,
            start_new_session=True, preexec_fn=_take_foreground,
        )  # fmt: skip
        os.close(inside)
        os.set_blocking(self.screen, False)

    def wait_for(self, text: str) -> None:
        """Wait for a text after the one that was waited for before."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.shown.find(text, self._waited)) < 0:
            assert time.monotonic() < deadline, self.shown
            self._read()
        self._waited = found + len(text)

    def type(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def end(self) -> int:
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self._read()
        self._read()
        return self.process.returncode

    def _read(self) -> None:
        try:
            self.shown += os.read(self.screen, 65536).decode(errors="replace").replace("\r\n", "\n")
        except OSError:  # nothing there, or the command has ended
            time.sleep(0.1)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.screen)


def _take_foreground() -> None:
    """Take the foreground of the terminal, and handle Ctrl-C, which a shell's background processes ignore."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
