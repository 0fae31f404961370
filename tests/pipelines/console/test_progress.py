from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from pipelines.console import progress as image_progress
from pipelines.console.progress import ImageProgress


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Clock that a test sets."""
    time = [0.0]
    monkeypatch.setattr(image_progress, "time", SimpleNamespace(monotonic=lambda: time[0]))
    return time


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


def test_a_log_gets_a_line_now_and_then(now: list[float], log: io.StringIO) -> None:
    progress = ImageProgress(Console(file=log))
    with progress.counting(20, done=0):
        for seconds in (6, 9, 12, 13):
            now[0] = seconds
            progress.advance()
    assert log.getvalue() == "3/20 images · 4.0 s/img · ETA 01:08\n"


def test_a_large_image_is_followed_while_it_is_predicted(now: list[float], log: io.StringIO) -> None:
    progress = ImageProgress(Console(file=log))
    with progress.counting(2, done=1):
        now[0] = 30
        progress.show_share(0.25)
    assert log.getvalue().splitlines() == [
        "1 of 2 images are already done",
        "1/2 images and 25% of another · 120.0 s/img · ETA 01:30",
    ]


def test_images_that_were_done_before_say_nothing_of_the_speed(now: list[float], log: io.StringIO) -> None:
    progress = ImageProgress(Console(file=log))
    with progress.counting(104, done=100):
        now[0] = 20
        progress.advance()
    assert "101/104 images · 20.0 s/img · ETA 01:00" in log.getvalue()
