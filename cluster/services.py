"""The two processes of a cluster on this machine: Ray's head and the MLflow server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.errors import ClusterError
from cluster.state import FOLDER, State

MARK = "MRQM_CLUSTER"
"""Environment variable of all processes of a cluster, with the name of the cluster."""

Say = Callable[[str], None]


def launch_ray(state: State, port: int, num_cpus: int | None) -> subprocess.Popen[bytes]:
    """Start Ray's head; it continues when this process ends.

    Args:
        state: state of the cluster.
        port: port of the dashboard.
        num_cpus: number of CPUs that jobs may use; None for all.

    Returns:
        The process, whose output is in `ray.log` of the cluster's folder.
    """
    return _launch(_ray_command(state, port, num_cpus), "ray", _ray_environment(state))


def launch_mlflow(state: State, port: int) -> subprocess.Popen[bytes]:
    """Start the MLflow server; it continues when this process ends.

    Args:
        state: state of the cluster.
        port: port of the server.

    Returns:
        The process, whose output is in `mlflow.log` of the cluster's folder.
    """
    return _launch(_mlflow_command(state, port), "mlflow", _mlflow_environment(state))


def end_of_log(name: str) -> str:
    """Read the last lines of a process's output; the name is `ray` or `mlflow`."""
    log = FOLDER / f"{name}.log"
    return "\n".join([f"the end of {log}:", *log.read_text().splitlines()[-8:]])


def free_port(wanted: int, say: Say) -> int:
    """Find a free port of the loopback interface.

    Args:
        wanted: preferred port; 0 for any.
        say: printer of lines for the user, who is told of another port.

    Returns:
        The wanted port, or a free one if that is in use.

    Raises:
        ClusterError: no port is free.
    """
    for port in (wanted, 0):
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            free = int(attempt.getsockname()[1])
            if free != wanted:
                say(f"port {wanted} is in use, using {free}")
            return free
    raise ClusterError("no port of 127.0.0.1 is free")


def _ray_command(state: State, port: int, num_cpus: int | None) -> list[str]:
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={port}", f"--temp-dir={state.ray_files}"),
        # Ports that no other Ray on this machine uses.
        f"--port={free_port(0, lambda text: None)}",
        f"--ray-client-server-port={free_port(0, lambda text: None)}",
        *("--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"),
        *([f"--num-cpus={num_cpus}"] if num_cpus else []),
    ]


def _ray_environment(state: State) -> dict[str, str]:
    """Return the environment of the head, and so of every job."""
    return _clean_environment() | {
        MARK: state.name,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # a job's `python`
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(state.token_file),
        "RAY_JOB_STOP_WAIT_TIME_S": "30",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # there is no other node to drain to
        "MRQM_ROOT": state.folder,
        "MLFLOW_TRACKING_URI": state.mlflow,
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
    }


def _mlflow_command(state: State, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"),
        f"--backend-store-uri=sqlite:///{state.folder}/mlflow.db",
        f"--artifacts-destination={state.folder}/mlruns",
    ]


def _mlflow_environment(state: State) -> dict[str, str]:
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return _clean_environment() | settings | {MARK: state.name}


def _clean_environment() -> dict[str, str]:
    """Return this process's environment without the variables of other clusters and stores."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "MRQM_"))}


def _launch(command: list[str], name: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that continues when this one ends."""
    with (FOLDER / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
