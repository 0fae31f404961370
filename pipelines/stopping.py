"""Signals that end a training or a sweep."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Let SIGTERM, which clusters send to stop a job, end a training or a sweep as Ctrl-C does.

    Ctrl-C ends it also where a shell made its background commands ignore it, as Ray Train has it. It belongs into Ray's
    session: to connect replaces the handler of SIGTERM.

    Yields:
        What stops the training from another thread. Outside of the main thread nothing can: it does nothing.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield lambda: None
        return
    before = {
        number: signal.signal(number, signal.default_int_handler) or signal.SIG_DFL
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: signal.pthread_kill(main.ident or 0, signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
