"""The question at Ctrl-C, which is asked only in a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..terminal import Terminal

ROOT = Path(__file__).parents[3]
ASK = [sys.executable, "-c", "from cluster.jobs.prompt import ask_what_to_do; print('meant', ask_what_to_do('demo-1'))"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(
    ("keys", "meant"),
    [("s\n", "stop"), ("D\n", "detach"), ("f\n", "follow"), ("\n", "detach"), ("\x04", "detach"), ("\x03", "detach")],
)
def test_an_answer_in_a_terminal(keys: str, meant: str, tmp_path: Path) -> None:
    terminal = Terminal(ASK, tmp_path, ENVIRONMENT)
    terminal.wait_for("demo-1: [s]top the job, [d]etach")
    terminal.type(keys)
    assert terminal.end() == 0
    terminal.close()
    assert f"meant {meant}" in terminal.shown


def test_no_answer_is_asked_again(tmp_path: Path) -> None:
    terminal = Terminal(ASK, tmp_path, ENVIRONMENT)
    terminal.wait_for("[s]top")
    terminal.type("what?\n")
    terminal.wait_for("[s]top")
    terminal.type("s\n")
    assert terminal.end() == 0
    terminal.close()
    assert "meant stop" in terminal.shown


def test_where_nobody_can_answer_the_job_goes_on() -> None:
    done = subprocess.run(ASK, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("meant detach\n", "")
