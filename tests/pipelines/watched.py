"""A training in this process, with a concurrent action of the test."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from mrqm.config import Config
from pipelines.storage.run_summary import Summary
from pipelines.training.driver import train

from ..waiting import wait_until


class Log(io.StringIO):
    """Output of a training, to wait for.

    Attributes:
        ended: event that is set at the end of the training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ended = threading.Event()

    def wait_for(self, *words: str) -> None:
        """Wait until any of some texts is printed; fail if the training or the time ends before."""
        wait_until(lambda: self._has(words) or self.ended.is_set(), f"{words} were never printed", self.getvalue)
        assert self._has(words), f"{words} were never printed:\n{self.getvalue()}"

    def _has(self, words: tuple[str, ...]) -> bool:
        return any(each in self.getvalue() for each in words)


def press_ctrl_c() -> None:
    """Send SIGINT to the main thread, as a terminal does."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def train_while(config: Config, action: Callable[[Log], None]) -> tuple[Summary, str]:
    """Train in the main thread while an action runs in another; return summary and output.

    If the action fails, the training is stopped, since it may wait for the action's effect.
    """
    log = Log()

    def watch() -> None:
        try:
            action(log)
        except BaseException:
            if not log.ended.is_set():
                press_ctrl_c()
            raise

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(watch)
        try:
            summary = train(config, Console(file=log))
        except BaseException:
            log.ended.set()
            running.result()
            raise
        log.ended.set()
        running.result()
    return summary, log.getvalue()
