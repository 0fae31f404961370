"""Signals that end a command: SIGINT from Ctrl-C, and SIGTERM from `timeout`, Slurm, systemd and clusters.

Both raise KeyboardInterrupt in the main thread, once; the code there closes its resources and lets it pass. They may
reach this process alone or its whole group, may come twice, and may end Ray or an MLflow server too. Nothing may
therefore wait for these without a timeout, and a process that takes too long is ended here.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_CODE = 130
"""Exit code of a command that either signal ended, as a shell reports it after Ctrl-C."""
SECONDS_OF_REPETITION = 2.0
"""Seconds within which signals count as one: `timeout` signals its command, and then the command's group."""
SECONDS_TO_END = 20.0
"""Seconds from the signal to the end of the process at the latest; Slurm and Kubernetes kill it after 30."""
STDERR = 2

Handlers = dict[signal.Signals, Any]


class Stop:
    """The handler of both signals.

    Args:
        ends_process: True to end the process at a second signal, or if it takes too long; False in a notebook.

    Attributes:
        requested: True after a signal.
    """

    def __init__(self, *, ends_process: bool) -> None:
        self.requested = False
        self._ends_process = ends_process
        self._at = 0.0
        self._interrupting = False
        self._decided = threading.Lock()  # released by the handler, which must not acquire a lock of the main thread
        self._decided.acquire()
        self._before: Handlers = {}

    def install(self) -> None:
        """Install the handler; does nothing outside of the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        if self._ends_process:
            threading.Thread(target=self._watch, name="stop", daemon=True).start()
        self._before = _handlers()
        _set_handlers(dict.fromkeys(SIGNALS, self))

    def remove(self) -> None:
        """Restore the former handlers."""
        _set_handlers(self._before)
        if not self.requested:
            self._decided.release()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the main thread from another one; does nothing if no handler is installed."""
        if self._before:
            self._interrupting = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self._interrupting:
            self._interrupting = False
            raise KeyboardInterrupt
        now, repeated = time.monotonic(), self.requested
        if repeated and now - self._at <= SECONDS_OF_REPETITION:
            return
        if repeated and self._ends_process:
            end_at_once()
        self.requested, self._at = True, now
        if not repeated:
            self._decided.release()
        raise KeyboardInterrupt

    def _watch(self) -> None:
        self._decided.acquire()
        if self.requested:
            time.sleep(SECONDS_TO_END)
            end_at_once()


def end_at_once() -> None:
    """End the process without closing anything; the Ray processes that it started end with it."""
    with suppress(OSError):
        os.write(STDERR, b"stopped before everything was closed; the same command continues\n")
    os._exit(EXIT_CODE)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let both signals raise KeyboardInterrupt, also in background commands, for which shells ignore Ctrl-C.

    Yields:
        The handler, which is not installed outside of the main thread.
    """
    stop = signal.getsignal(signal.SIGTERM)
    if isinstance(stop, Stop):
        yield stop
        return
    stop = Stop(ends_process=False)
    stop.install()
    try:
        yield stop
    finally:
        stop.remove()


@contextmanager
def stoppable_command(say: Callable[[str], object], what_follows: str) -> Iterator[None]:
    """Let both signals end a command with one line and `EXIT_CODE`.

    Args:
        say: printer of the line.
        what_follows: second half of the line, such as `the same command continues`.

    Raises:
        SystemExit: a signal ended the command.
    """
    stop = Stop(ends_process=True)
    stop.install()
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        if not (interrupted or stop.requested):
            raise
        with suppress(OSError):  # the reader of the output may have ended too
            if not interrupted:  # an error that the interruption caused
                say(f"note: {type(error).__name__}: {error}")
            say(f"stopped; {what_follows}")
        raise SystemExit(EXIT_CODE) from error
    finally:
        if not stop.requested:  # else the watch continues, as the process still waits for its threads
            stop.remove()


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Restore the handlers of both signals afterwards: Ray replaces that of SIGTERM when it starts and ends."""
    before = _handlers()
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            _set_handlers(before)


def _handlers() -> Handlers:
    return {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}


def _set_handlers(handlers: Handlers) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
