import logging
from types import SimpleNamespace
from typing import Any

import pytest

from mrqm.structures.step_report import StepReport
from pipelines.compute import message_queue
from pipelines.compute.message_queue import LogMessageHandler, MessageQueue, StepSender


class Tape(MessageQueue):
    """A line that remembers instead of sending."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, event: Any) -> None:
        self.sent.append(event)

    send_later = send


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(message_queue, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def report(step: int, loss: float, steps: int = 100) -> StepReport:
    return StepReport(
        epoch=1,
        epochs=1,
        step=step,
        epoch_step=step,
        epoch_steps=steps,
        losses={"loss": loss},
        lr=0.1,
        images_per_second=1.0,
        images_seen=step,
        elapsed_seconds=0.0,
        eta_seconds=0.0,
    )


def test_the_first_step_is_sent_at_once(clock: list[float]) -> None:
    tape = Tape()
    StepSender(tape)(report(1, 2.0))
    assert tape.sent == [report(1, 2.0)]


def test_steps_within_a_second_are_sent_as_their_mean(clock: list[float]) -> None:
    tape = Tape()
    send = StepSender(tape)
    for step, loss in enumerate([9.0, 1.0, 2.0, 6.0], start=1):
        clock[0] += 0.4
        send(report(step, loss))
    assert [(sent.step, sent.losses["loss"]) for sent in tape.sent] == [(1, 9.0), (4, 3.0)]


def test_the_last_step_of_an_epoch_is_always_sent(clock: list[float]) -> None:
    tape = Tape()
    send = StepSender(tape)
    send(report(1, 1.0, steps=2))
    send(report(2, 3.0, steps=2))
    assert [sent.step for sent in tape.sent] == [1, 2]


def test_warnings_are_passed_on_as_text() -> None:
    said: list[str] = []
    logger, handler = logging.getLogger("mrqm.test_events"), LogMessageHandler(said.append)
    logger.addHandler(handler)
    logger.warning("%s; skipped", "a.jpg")
    logger.info("not worth a word")
    logger.removeHandler(handler)
    assert said == ["a.jpg; skipped"]
