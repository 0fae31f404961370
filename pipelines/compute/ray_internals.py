"""Names of Ray 2.60 that are not documented. No other module of this project imports any.

Where one of them is missing in another version of Ray, `MISSING` names it and the documented behaviour of Ray takes its
place: the docstrings here say what is lost then.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import ray
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

MISSING: list[str] = []
"""Names that this version of Ray does not have."""


def _find(module: str, name: str) -> Any:
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError):
        MISSING.append(f"{module}.{name}")
        return None


_services = _find("ray._private", "services")
_console_popen = _find("ray._private.services", "ConsolePopen")
_dashboard_url = _find("ray._private.services", "get_webui_url_from_internal_kv")
_utils = _find("ray._private", "utils")
_set_sigterm_handler = _find("ray._private.utils", "set_sigterm_handler")
_placement_group_id = _find("ray._raylet", "PlacementGroupID")
_cleaner = _find("ray.train.v2._internal.callbacks.placement_group_callback", "PlacementGroupCleanerCallback")
_datasets = _find("ray.train.v2._internal.callbacks", "DatasetsCallback")


def has_dashboard() -> bool:
    """Tell if the cluster has a dashboard; True if this version of Ray cannot be asked."""
    return _dashboard_url is None or bool(_dashboard_url())


def without_idle_callbacks(callbacks: list[Any]) -> list[Any]:
    """Remove the callbacks of Ray Train that are not needed here; without Ray's names for them, each costs seconds.

    One passes Ray's own data sets to workers, in a process that is started with every group of workers. The other
    removes reservations after a controller's death, through the dashboard, for which it waits if there is none.

    Args:
        callbacks: default callbacks of a trainer.

    Returns:
        The others, in the same order.
    """
    idle = tuple(kind for kind in (_datasets, None if has_dashboard() else _cleaner) if kind is not None)
    return [callback for callback in callbacks if not isinstance(callback, idle)]


def reservations_of_job() -> set[str]:
    """Return the hex ids of the placement groups of this job, each of which ends with the job's id."""
    job = ray.get_runtime_context().get_job_id()
    return {identity for identity in placement_group_table() if identity.endswith(job)}


def remove_reservations(identities: set[str]) -> None:
    """Remove placement groups; without Ray's type of their ids they stay until the job ends.

    Args:
        identities: hex ids.
    """
    if _placement_group_id is not None:
        for identity in identities:
            remove_placement_group(PlacementGroup(_placement_group_id(bytes.fromhex(identity))))


@contextmanager
def isolated_from_signals() -> Iterator[None]:
    """Protect a Ray that is started here from the signals that end a command; keep this process's SIGTERM handler.

    `timeout` and terminals signal the process group of a command, systemd all of its processes. The command still needs
    Ray while it closes its run, and Ray's own code ends it as soon as its raylet is gone. Without Ray's names for this
    such a signal reaches Ray's processes too, and the MLflow run may stay open.
    """
    replaced: list[tuple[Any, str, Any]] = []
    if _set_sigterm_handler is not None:
        replaced.append((_utils, "set_sigterm_handler", lambda handler: None))
    if _console_popen is not None and sys.platform == "linux":
        replaced.append((_services, "ConsolePopen", _isolated_process(_console_popen)))
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    try:
        for module, name, replacement in replaced:
            setattr(module, name, replacement)
        yield
    finally:
        for module, name, original in before:
            setattr(module, name, original)


def _isolated_process(base: Any) -> Any:
    class IsolatedProcess(base):
        """A process of Ray's in a process group of its own and with SIGTERM blocked, as Ray itself blocks SIGINT.

        The kernel ends it when this process dies, for whatever reason.
        """

        def __init__(self, *arguments: Any, preexec_fn: Callable[[], None], **options: Any) -> None:
            def prepare() -> None:
                preexec_fn()
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

            super().__init__(*arguments, process_group=0, preexec_fn=prepare, **options)

        def terminate(self) -> None:
            """Kill the process group, which includes a raylet's agents; workers end by themselves without a raylet."""
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    return IsolatedProcess
