"""Ray's start on this machine, as far as its documented interface leaves no choice.

What is replaced here belongs to Ray 2.60's private modules; where it is missing, Ray starts as it does by itself, and a
signal to the group of a command reaches Ray's processes too.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ray._private import services, utils


class _IsolatedProcess(services.ConsolePopen):
    """A process of Ray's in a process group of its own and with SIGTERM blocked, as Ray itself blocks SIGINT.

    The kernel ends it when this process dies, for whatever reason.
    """

    def __init__(self, *arguments: Any, preexec_fn: Callable[[], None], **options: Any) -> None:
        def prepare() -> None:
            preexec_fn()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

        super().__init__(*arguments, process_group=0, preexec_fn=prepare, **options)

    def terminate(self) -> None:
        """Kill it with its group, in which a raylet's agents are; workers end by themselves without a raylet."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


@contextmanager
def isolated_from_signals() -> Iterator[None]:
    """Start Ray out of reach of the signals that end a command, and keep this process's handler of SIGTERM.

    `timeout` and terminals signal the process group of a command, systemd all of its processes. The command still needs
    Ray while it closes its run, and Ray's own code ends it as soon as its raylet is gone.
    """
    replaced: dict[tuple[Any, str], Any] = {(utils, "set_sigterm_handler"): lambda handler: None}
    if sys.platform == "linux":
        replaced[services, "ConsolePopen"] = _IsolatedProcess
    before = {(module, name): getattr(module, name) for module, name in replaced}
    try:
        for (module, name), replacement in replaced.items():
            setattr(module, name, replacement)
        yield
    finally:
        for (module, name), original in before.items():
            setattr(module, name, original)
