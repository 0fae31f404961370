"""Progress over images: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from pipelines.console.format import SECONDS_BETWEEN_LINES, duration


class ImageProgress:
    """Progress of images on a console.

    Args:
        console: terminal or log.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("images"), BarColumn(30), MofNCompleteColumn(), TextColumn("{task.fields[detail]}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._total = self._before = self._done = 0
        self._begin = self._printed = 0.0

    @contextmanager
    def counting(self, total: int, done: int) -> Iterator[None]:
        """Show progress over images while the context is open.

        Args:
            total: number of images.
            done: number of images already completed.

        Yields:
            None.
        """
        self._total, self._before, self._done = total, done, done
        self._begin = self._printed = time.monotonic()
        if done:
            self.line(f"{done} of {total} images are already done")
        self._task = self._bar.add_task("", total=total, completed=done, detail="")
        with self._bar:
            yield

    def advance(self) -> None:
        """Count one completed image."""
        self._done += 1
        self.show_share(0)

    def show_share(self, share: float) -> None:
        """Show the completed share of the current image, in [0, 1], since large images take minutes."""
        now, completed = time.monotonic(), self._done + share
        speed = max(completed - self._before, 1e-6) / max(now - self._begin, 1e-6)
        detail = f"{_describe(speed)} · ETA {duration((self._total - completed) / speed)}"
        self._bar.update(self._task, completed=completed, detail=detail)
        if not self._console.is_terminal and now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            part = f" and {share:.0%} of another" if share else ""
            self.line(f"{self._done}/{self._total} images{part} · {detail}")

    def line(self, text: str) -> None:
        """Print a permanent line."""
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)


def _describe(speed: float) -> str:
    return f"{speed:.1f} img/s" if speed >= 1 else f"{1 / speed:.1f} s/img"
