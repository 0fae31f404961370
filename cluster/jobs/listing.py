"""The jobs of a cluster: `mrqm jobs list`, `logs`, `stop`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cluster.dashboard import Dashboard
from cluster.errors import ClusterError, UnknownJobError
from cluster.jobs.client import open_client, request_stop
from cluster.jobs.follow import ENDED

WIDE = 160
"""Least columns of a terminal for a table of jobs."""
STOPPING = 60.0
"""Seconds to wait for a job to stop."""

Say = Callable[[str], None]


def list_jobs(dashboard: Dashboard) -> list[dict[str, Any]]:
    """List the submitted jobs of a cluster, newest first."""
    jobs = [job for job in dashboard.get("/api/jobs/") if job["submission_id"]]
    return sorted(jobs, key=lambda job: -job["start_time"])


def print_jobs(jobs: list[dict[str, Any]], console: Console) -> None:
    """Print a table of jobs or, on a narrow console, some lines for each job.

    Args:
        jobs: jobs as the cluster describes them.
        console: console to print to.
    """
    if console.width >= WIDE:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in ("job", "status", "started", "took", "by", "command"):
            table.add_column(column, no_wrap=column != "command", overflow="fold")
        for job in jobs:
            table.add_row(*map(Text, _cells(job)))
        console.print(table)
        return
    for name, status, started, took, user, command in map(_cells, jobs):
        console.print(Text(name, style="bold", overflow="fold"))
        for line in (f"{status}, started {started}, took {took}, by {user}", command):
            console.print(Padding(Text(line, overflow="fold"), (0, 0, 0, 2)))


def _cells(job: dict[str, Any]) -> tuple[str, str, str, str, str, str]:
    """Format a job's id, status, start, duration, user and command."""
    code = job["driver_exit_code"]
    begin, end = job["start_time"] / 1000, (job["end_time"] or time.time() * 1000) / 1000
    return (
        job["submission_id"],
        job["status"].lower() + (f" ({code})" if code else ""),
        f"{datetime.fromtimestamp(begin):%Y-%m-%d %H:%M}",
        str(timedelta(seconds=round(end - begin))),
        (job["metadata"] or {}).get("user", "–"),
        job["entrypoint"].removeprefix("python -m "),
    )


def find_job(dashboard: Dashboard, name: str) -> str:
    """Find the id of a job.

    Args:
        dashboard: dashboard of the cluster.
        name: id of the job, or a prefix that no other job's id has.

    Returns:
        The whole id.

    Raises:
        UnknownJobError: there is no such job, or more than one.
    """
    known = [job["submission_id"] for job in list_jobs(dashboard)]
    if name in known:
        return name
    found = [each for each in known if each.startswith(name)]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise UnknownJobError(f"{name}: more than one job begins so: {', '.join(found)}; give more of the id")
    raise UnknownJobError(f"{dashboard.address} has no job {name}; `mrqm jobs list` shows those it has")


def print_logs(dashboard: Dashboard, submission_id: str, say: Say) -> None:
    """Print the output of a job until now.

    Args:
        dashboard: dashboard of the cluster.
        submission_id: id of the job.
        say: printer of the output.
    """
    output = open_client(dashboard).get_job_logs(submission_id).rstrip("\n")
    if output:
        say(output)


def stop_job(dashboard: Dashboard, submission_id: str, say: Say) -> None:
    """Ask a job to end, so that a training can save its state, and wait until it has ended.

    Args:
        dashboard: dashboard of the cluster.
        submission_id: id of the job.
        say: printer of lines for the user.

    Raises:
        ClusterError: the job still runs after a minute.
    """
    if (status := dashboard.job(submission_id)["status"]) in ENDED:
        say(f"job {submission_id} has {status.lower()} already")
        return
    request_stop(dashboard, submission_id)
    deadline = time.monotonic() + STOPPING
    while (status := dashboard.job(submission_id)["status"]) not in ENDED:
        if time.monotonic() > deadline:
            raise ClusterError(
                f"job {submission_id} was asked to stop {STOPPING:.0f} s ago and is still {status.lower()}"
            )
        time.sleep(0.5)
    say(f"job {submission_id} {status.lower()}")
