"""A training in this process that is watched, and meddled with, while it runs."""

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
    """What a training prints, for somebody who waits for it.

    Attributes:
        ended: nothing more comes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ended = threading.Event()

    def wait_for(self, *words: str) -> None:
        """Until any of some words were printed; it is an error if the training or the time ends before."""
        wait_until(lambda: self._has(words) or self.ended.is_set(), f"{words} were never printed", self.getvalue)
        assert self._has(words), f"{words} were never printed:\n{self.getvalue()}"

    def _has(self, words: tuple[str, ...]) -> bool:
        return any(each in self.getvalue() for each in words)


def press_ctrl_c() -> None:
    """As the terminal tells the main thread."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def train_while(config: Config, meddle: Callable[[Log], None]) -> tuple[Summary, str]:
    """Train, as the main thread, while another one does something; returns what came of it and what was printed.

    Where the other fails, the training is stopped: it may wait for what will not come.
    """
    log = Log()

    def watch() -> None:
        try:
            meddle(log)
        except BaseException:
            if not log.ended.is_set():
                press_ctrl_c()
            raise

    with ThreadPoolExecutor(1) as pool:
        meddling = pool.submit(watch)
        try:
            summary = train(config, Console(file=log))
        except BaseException:
            log.ended.set()
            meddling.result()
            raise
        log.ended.set()
        meddling.result()
    return summary, log.getvalue()
