"""Signals at a command, in processes of their own: what they end, how often, and how soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from pipelines.process import signals as stopping
from pipelines.process.signals import EXIT_CODE, Stop, kept_handlers, stoppable

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


class Script:
    """A process that runs Python within `stoppable_command`, in a group of its own.

    Args:
        body: code that prints `begun` when it can be signalled.
        patience: constants of `pipelines.process.signals`, in seconds.
    """

    def __init__(self, body: str, **patience: float) -> None:
        program = [
            "import os, signal, sys, threading, time",
            "from pipelines.process import signals as stopping",
            "say = lambda text: print(text, flush=True)",
            *(f"stopping.{name} = {seconds}" for name, seconds in patience.items()),
            "with stopping.stoppable_command(print, 'the same command continues'):",
            textwrap.indent(body, "    "),
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-c", "\n".join(program)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = self.process.stdout
        self.wait_for("begun")

    def wait_for(self, line: str) -> None:
        assert self.said.readline() == f"{line}\n"

    def end(self) -> str:
        """Everything else that it says until it ends."""
        output = self.process.communicate()[0]
        assert self.process.returncode == EXIT_CODE, output
        return output


@BOTH
def test_both_signals_end_a_command_with_one_line_and_one_exit_code(number: signal.Signals) -> None:
    script = Script("try: say('begun'); time.sleep(100)\nfinally: say('closed')")
    os.killpg(script.process.pid, number)
    assert script.end() == "closed\nstopped; the same command continues\n"


def test_signals_that_are_repeated_at_once_do_not_disturb_what_is_closed() -> None:
    script = Script("try: say('begun'); time.sleep(100)\nfinally: say('closing'); time.sleep(0.5); say('closed')")
    script.process.send_signal(signal.SIGTERM)
    script.wait_for("closing")
    script.process.send_signal(signal.SIGTERM)  # as `timeout` does
    script.process.send_signal(signal.SIGINT)
    assert script.end() == "closed\nstopped; the same command continues\n"


def test_a_user_who_asks_again_does_not_wait() -> None:
    body = "try: say('begun'); time.sleep(100)\nfinally: say('closing'); time.sleep(1000)"
    script = Script(body, SECONDS_OF_REPETITION=0.1)
    script.process.send_signal(signal.SIGINT)
    script.wait_for("closing")
    time.sleep(0.2)
    script.process.send_signal(signal.SIGINT)
    assert script.end() == "stopped before everything was closed; the same command continues\n"


@pytest.mark.parametrize(
    "body",
    [
        "try: say('begun'); time.sleep(1000)\nfinally: time.sleep(1000)",
        "threading.Thread(target=time.sleep, args=[1000]).start(); say('begun'); time.sleep(1000)",
    ],
    ids=["in the main thread", "in a thread that is joined at the end"],
)
def test_what_hangs_while_it_is_closed_is_cut_short(body: str) -> None:
    script = Script(body, SECONDS_TO_END=0.5)
    script.process.send_signal(signal.SIGTERM)
    assert script.end().endswith("stopped before everything was closed; the same command continues\n")


def test_an_error_that_follows_from_the_signal_is_told_and_still_a_stop() -> None:
    script = Script("try: say('begun'); time.sleep(100)\nexcept KeyboardInterrupt: raise OSError('it broke') from None")
    script.process.send_signal(signal.SIGTERM)
    assert script.end() == "note: OSError: it broke\nstopped; the same command continues\n"


def test_a_reader_that_was_stopped_too_is_no_reason_to_fail() -> None:
    script = Script("say('begun'); time.sleep(100)")
    script.said.close()
    script.process.send_signal(signal.SIGTERM)
    assert script.process.wait() == EXIT_CODE


def test_a_command_that_ends_by_itself_leaves_nothing_that_would_end_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopping.stoppable_command(print, ""):
        assert isinstance(signal.getsignal(signal.SIGTERM), Stop)
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(ValueError, match="no stop"), stopping.stoppable_command(print, ""):
        raise ValueError("no stop")


def test_a_thread_can_end_the_main_thread_and_that_is_no_signal_from_outside() -> None:
    with pytest.raises(KeyboardInterrupt), stoppable() as stop:
        stop.interrupt()
        time.sleep(100)
    assert not stop.requested


def test_a_training_within_a_command_shares_its_handler() -> None:
    with stoppable() as outer, stoppable() as inner:
        assert inner is outer


def test_handlers_that_ray_replaces_are_put_back() -> None:
    with stoppable() as stop:
        with kept_handlers():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert signal.getsignal(signal.SIGTERM) is stop
