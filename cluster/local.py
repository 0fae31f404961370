"""A cluster on this machine, for the folder it is started in: `mrqm cluster up`, `status`, `down`.

Ray's head, protected by a token, and an MLflow server with SQLite, both on loopback. Jobs get the address of MLflow in
their environment, and their relative paths belong to this folder. The cluster's processes are found by a variable in
their environment or by their log files, so that `down` ends them after a crash too, and no other cluster's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import psutil

from cluster.address import Address
from cluster.dashboard import open_dashboard
from cluster.errors import ClusterError
from cluster.services import MARK, Say, end_of_log, free_port, launch_mlflow, launch_ray
from cluster.state import FOLDER, State, forget_state, read_state, write_state

SECONDS_TO_START = 180.0
SECONDS_TO_STOP = 10.0
SHORT = Path("/tmp")
"""Parent of the folder of Ray's sockets, whose paths the system limits to about a hundred characters."""


def start(dashboard_port: int, mlflow_port: int, num_cpus: int | None, say: Say) -> State:
    """Start Ray and MLflow and wait until they answer; a running cluster is kept.

    Args:
        dashboard_port: port of Ray's dashboard; another one is used if it is in use.
        mlflow_port: port of the MLflow server; another one is used if it is in use.
        num_cpus: number of CPUs that jobs may use; None for all.
        say: printer of lines for the user.

    Returns:
        The cluster's state.

    Raises:
        ClusterError: Ray or MLflow ended, or does not answer.
    """
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    if before := read_state():
        if is_whole(before):
            say("the cluster of this folder is already running")
            return before
        say("removing the remains of a cluster that ended")
        end(lambda text: None)
    ports = [free_port(wanted, say) for wanted in (dashboard_port, mlflow_port)]
    dashboard, mlflow = (f"http://127.0.0.1:{port}" for port in ports)
    state = State(secrets.token_hex(8), str(Path.cwd()), dashboard, mlflow, tempfile.mkdtemp(prefix="mrqm-", dir=SHORT))
    _write_token(state.token_file)
    write_state(state)
    say("starting Ray and MLflow, which takes half a minute")
    try:
        logs = {
            "mlflow": launch_mlflow(state, ports[1]),
            "ray": launch_ray(state, ports[0], num_cpus),
        }
        _wait_until_whole(state, logs)
    except BaseException:
        end(lambda text: None)
        raise
    return state


def end(say: Say) -> None:
    """Stop the jobs, then the cluster of this folder."""
    state = read_state()
    if state is None:
        say("no cluster was started in this folder")
        return
    _stop_jobs(state, say)
    processes = find(state)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # one that ended with another
            process.terminate()
    psutil.wait_procs(processes, SECONDS_TO_STOP)
    while left := find(state):
        for process in left:
            process.kill()
        psutil.wait_procs(left, SECONDS_TO_STOP)
    shutil.rmtree(state.ray_files, ignore_errors=True)
    forget_state()
    say(f"ended {len(processes)} processes; runs and MLflow's database stay" if processes else "nothing was running")


def find(state: State) -> list[psutil.Process]:
    """Find the cluster's processes and their children."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == state.name or _writes_logs(process, state.ray_files):
                found |= {each.pid: each for each in (process, *process.children(recursive=True))}
        except psutil.Error:  # a process of another user, or one that has just ended
            continue
    return [process for process in found.values() if process.pid != os.getpid()]


def _writes_logs(process: psutil.Process, folder: str) -> bool:
    """Tell if a process is one of Ray's that overwrite their environment with their name, as the agents of a node do.

    They survive a node that crashes together with the head, and use up a core.
    """
    return process.name().startswith("ray::") and any(file.path.startswith(folder) for file in process.open_files())


def is_whole(state: State) -> bool:
    """Tell if Ray and MLflow answer."""
    try:
        open_dashboard(Address(state.dashboard, state))
    except ClusterError:
        return False
    return _mlflow_answers(state)


def describe(state: State) -> list[str]:
    """Describe a cluster's addresses, and the commands to continue with."""
    return [
        f"ray       {state.dashboard}, token in {state.token_file}",
        f"mlflow    {state.mlflow}",
        "next      mrqm submit -- demo-data data/demo",
        "          mrqm submit -- train -c configs/demo.yaml",
        "          mrqm jobs list · mrqm cluster down",
        "Ray's own commands:",
        f"  export RAY_ADDRESS={state.dashboard} RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={state.token_file}",
    ]


def _write_token(path: Path) -> None:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))


def _wait_until_whole(state: State, processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not is_whole(state):
        for name, process in processes.items():
            if process.poll() is not None:
                raise ClusterError(f"{name} did not start; {end_of_log(name)}")
        if time.monotonic() > deadline:
            raise ClusterError(f"no answer after {SECONDS_TO_START:.0f} s; {end_of_log('ray')}")
        time.sleep(0.2)


def _mlflow_answers(state: State) -> bool:
    try:
        with urllib.request.urlopen(f"{state.mlflow}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _stop_jobs(state: State, say: Say) -> None:
    """Stop the running jobs as `mrqm jobs stop` does, so that trainings save their state."""
    try:
        dashboard = open_dashboard(Address(state.dashboard, state))
        from cluster.jobs.follow import ENDED
        from cluster.jobs.listing import list_jobs, stop_job

        for job in list_jobs(dashboard):
            if job["status"] not in ENDED:
                say(f"job {job['submission_id']} was running; the same command resumes a training")
                stop_job(dashboard, job["submission_id"], lambda text: None)
    except ClusterError:
        return  # the jobs of a cluster that does not answer cannot be asked to end
