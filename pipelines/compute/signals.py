"""The end of a command from outside: Ctrl-C, and SIGTERM, which `timeout`, Slurm, systemd and clusters send.

Both raise KeyboardInterrupt in the main thread, once: whatever runs there closes what it holds and lets it pass. They
may come to this process alone or to all of its group, may come twice, and find a Ray or an MLflow that is ending too.
So nothing that is done meanwhile may wait for these without a bound, and what takes too long is cut short here.
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
"""Of a command that either signal ended: as a shell has it after Ctrl-C."""
SECONDS_OF_REPETITION = 2.0
"""Further signals within these are the same one: `timeout` signals its command, and then the command's group."""
SECONDS_TO_END = 20.0
"""From the signal until the process ends, whatever it still waits for; Slurm and Kubernetes kill it after 30."""
STDERR = 2

Handlers = dict[signal.Signals, Any]


class Stop:
    """The handler of both signals.

    Args:
        ends_process: cut short what takes too long, or what the user has lost patience with; not in a notebook.

    Attributes:
        requested: whether a signal came.
    """

    def __init__(self, *, ends_process: bool) -> None:
        self.requested = False
        self._ends_process = ends_process
        self._at = 0.0
        self._interrupting = False
        self._decided = threading.Lock()  # released by the handler, which may take none that the main thread could hold
        self._decided.acquire()
        self._before: Handlers = {}

    def install(self) -> None:
        """Handle the signals; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            return
        if self._ends_process:
            threading.Thread(target=self._watch, name="stop", daemon=True).start()
        self._before = _handlers()
        _set_handlers(dict.fromkeys(SIGNALS, self))

    def remove(self) -> None:
        """Give the signals back to who had them."""
        _set_handlers(self._before)
        if not self.requested:
            self._decided.release()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the main thread, for another one; does nothing where nothing is handled."""
        if self._before:
            self._interrupting = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """A signal has come."""
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
    """End the process with all that it holds open; Ray's processes, if it started any, end with it."""
    with suppress(OSError):
        os.write(STDERR, b"stopped before everything was closed; the same command continues\n")
    os._exit(EXIT_CODE)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let both signals raise KeyboardInterrupt, also where a shell made its background commands ignore Ctrl-C.

    Yields:
        The handler; outside of the main thread one that handles nothing.
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
        say: prints the line.
        what_follows: its second half, such as `the same command continues`.

    Raises:
        SystemExit: a signal came.
    """
    stop = Stop(ends_process=True)
    stop.install()
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        if not (interrupted or stop.requested):
            raise
        with suppress(OSError):  # whoever reads it may have been stopped too
            if not interrupted:  # what was cut off may complain
                say(f"note: {type(error).__name__}: {error}")
            say(f"stopped; {what_follows}")
        raise SystemExit(EXIT_CODE) from error
    finally:
        if not stop.requested:  # else the watch goes on until the process has ended: threads are still waited for
            stop.remove()


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Have the handlers of both signals afterwards that there were before: Ray takes SIGTERM when it comes and goes."""
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
