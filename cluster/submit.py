"""Send a command of `mrqm` to a cluster: `mrqm submit -- train -c configs/visdrone_r50.yaml`.

Everything that can be checked on this machine, or on the cluster within seconds, is checked before anything is sent.
"""

from __future__ import annotations

import getpass
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from cluster.address import find_address
from cluster.command_line import CommandLine, ReadFile, read_command_line
from cluster.dashboard import Dashboard, open_dashboard
from cluster.errors import ClusterError
from cluster.jobs.job_env import make_job_env
from cluster.jobs.package import Package, pack

LEAST_RAY = (2, 60)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """A command to submit, and the settings of its job.

    Attributes:
        words: words after `mrqm`.
        address: address of the cluster's dashboard; None to look for it.
        working_dir: folder to send.
        submission_id: id of the job; None to make one.
        env: additional variables of the job, `NAME` or `NAME=VALUE`.
        resources: resources that the job's own process reserves: `CPU`, `GPU`, `memory` in bytes.
        read: reader of the configuration, given the command's words and the folder of its files; raises what the
            command itself would raise.
        redact: function that removes secrets from a text; texts that it changes are refused.
    """

    words: Sequence[str]
    address: str | None = None
    working_dir: Path = Path()
    submission_id: str | None = None
    env: Sequence[str] = ()
    resources: Mapping[str, float] = field(default_factory=dict)
    read: ReadFile = lambda words, folder: {}
    redact: Callable[[str], str] = field(kw_only=True)


@dataclass(frozen=True)
class Submitted:
    """A job that the cluster has accepted."""

    submission_id: str
    dashboard: Dashboard


def submit(request: Request, say: Say) -> Submitted:
    """Check, pack and send a command.

    Args:
        request: command to submit.
        say: printer of lines for the user.

    Returns:
        The job's id, and the dashboard of its cluster.

    Raises:
        ClusterError: the cluster cannot be reached, or the command could not run there.
    """
    package = pack(request.working_dir.absolute())
    package.require_small()
    command = read_command_line(request.words, package, request.read, request.redact)
    variables, notes = make_job_env(request.env, os.environ, request.redact)
    dashboard = open_dashboard(find_address(request.address))
    say(f"cluster   {dashboard.address}, Ray {dashboard.ray_version}")
    notes += _compare_versions(dashboard) + _check_nodes(dashboard, request, command, package)
    code = "this folder's mrqm/" if "mrqm/__main__.py" in package.files else "the cluster's own mrqm"
    say(f"sends     {package.describe()} of {package.root}; runs {code}")
    for note in notes:
        say(f"note      {note}")
    submission_id = _send(request, command, package, variables, dashboard)
    say(f"job       {submission_id}")
    return Submitted(submission_id, dashboard)


def _send(
    request: Request, command: CommandLine, package: Package, variables: Mapping[str, str], dashboard: Dashboard
) -> str:
    """Upload the package and submit the command; return the job's id."""
    from cluster.jobs.client import open_client  # imports Ray, which takes seconds

    client = open_client(dashboard)
    with tempfile.TemporaryDirectory(prefix="mrqm-") as folder:
        archive = Path(folder) / "working_dir.zip"
        package.write_zip(archive)
        try:
            return str(
                client.submit_job(
                    entrypoint=command.entrypoint,
                    submission_id=request.submission_id or command.submission_id(datetime.now()),
                    runtime_env={"working_dir": str(archive), "env_vars": dict(variables)},
                    metadata={"user": getpass.getuser()},
                    entrypoint_num_cpus=request.resources.get("CPU"),
                    entrypoint_num_gpus=request.resources.get("GPU"),
                    entrypoint_memory=int(request.resources.get("memory", 0)) or None,
                )
            )
        except (RuntimeError, OSError) as error:
            raise ClusterError(f"{dashboard.address} did not accept the job: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return the last line of a traceback of the job server, without the type of the error."""
    lines = [line for line in str(error).strip(". \n").splitlines() if line.strip()]
    return re.sub(r"^(\w+\.)*\w+: ", "", lines[-1]) if lines else repr(error)


def _compare_versions(dashboard: Dashboard) -> list[str]:
    """Describe the versions that differ between submitter and cluster; refuse a Ray that is too old."""
    there = dashboard.ray_version
    if tuple(int(number) for number in re.findall(r"\d+", there)[:2]) < LEAST_RAY:
        raise ClusterError(
            f"{dashboard.address} runs Ray {there}, and mrqm needs {'.'.join(map(str, LEAST_RAY))} or newer; update "
            "its nodes to the versions of constraints.txt"
        )
    ours = {"Ray": version("ray"), "Python": ".".join(map(str, sys.version_info[:3]))}
    theirs = {"Ray": there, "Python": dashboard.python_version()}
    return [
        f"{name} {theirs[name]} on the cluster, {ours[name]} here: the job runs with the cluster's"
        for name in ours
        if ours[name].rpartition(".")[0] != theirs[name].rpartition(".")[0]
    ]


def _check_nodes(dashboard: Dashboard, request: Request, command: CommandLine, package: Package) -> list[str]:
    """Describe the paths that the cluster's nodes cannot read, and the resources that none of them has."""
    nodes, notes = dashboard.nodes(), []
    if not _are_of_this_machine(nodes):
        notes += [
            f"{name} is on this machine and is not sent: the cluster looks for it in a folder of its own "
            "(MRQM_ROOT); put it on the share there, or give a URI"
            for name in command.find_local_paths(package.root)
        ]
    wanted = {name: amount for name, amount in request.resources.items() if amount}
    if wanted and not any(_has(node, wanted) for node in nodes):
        asked = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items())
        notes.append(f"no node has {asked} for the job's own process: it waits until such a node joins")
    if command.computes_itself and not wanted:
        notes.append(
            f"{command.words[0]} computes in the job's own process, on one thread of the head; "
            "--entrypoint-num-cpus or --entrypoint-num-gpus reserve more"
        )
    return notes


def _has(node: Mapping[str, Any], wanted: Mapping[str, float]) -> bool:
    return all(node["resources_total"].get(name, 0) >= amount for name, amount in wanted.items())


def _are_of_this_machine(nodes: Sequence[Mapping[str, Any]]) -> bool:
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return all(node["node_ip"] in own for node in nodes)
