"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable

PATIENCE = 300.0
"""Until a test gives up."""
WATCHFUL = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
"""Ray's settings by which a node that does not answer is dead after seconds, not a quarter of a minute."""


def wait_until(holds: Callable[[], object], what: str, detail: Callable[[], str] = lambda: "") -> None:
    """Wait until something holds; fail with what it is, and with details of that moment, if it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not in time: {what}\n{detail()}"
        time.sleep(0.02)
