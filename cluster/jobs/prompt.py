"""The question that Ctrl-C asks while a job is followed."""

from __future__ import annotations

import sys
from typing import Literal

Answer = Literal["stop", "detach", "follow"]
CHOICES: dict[str, Answer] = {"s": "stop", "d": "detach", "f": "follow", "": "detach"}


def ask_what_to_do(submission_id: str) -> Answer:
    """Ask in the terminal; without a terminal, and at a second Ctrl-C, the answer is to detach."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return "detach"
    sys.stderr.write("\n")
    while True:
        sys.stderr.write(f"{submission_id}: [s]top the job, [d]etach and let it continue, or [f]ollow further? [d] ")
        sys.stderr.flush()
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            line = ""
        if not line:
            sys.stderr.write("\n")
            return "detach"
        if (answer := line.strip().lower()[:1]) in CHOICES:
            return CHOICES[answer]
