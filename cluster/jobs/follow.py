"""A job's output as it comes, through broken connections, until the job ends."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from cluster.dashboard import Dashboard
from cluster.errors import ClusterError, UnknownJobError, UnreachableError
from cluster.jobs.client import open_client

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
SILENCE = 15.0
"""Seconds without output until the cluster is asked whether the job goes on."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""Seconds between attempts to reach a cluster again."""
PATIENCE = 900.0
"""Seconds without answer until a cluster is given up; the job may go on."""
TERMINATED = 143
"""As a shell has it: ended by SIGTERM, which is how jobs are stopped."""
NOT_FOUND = 127
"""As a shell has it: no such command."""
MLFLOW_RUN = re.compile(r"(?<!then )https?://\S+/#/runs/[0-9a-f]{32}\b")
"""As trainings, sweeps and tracked evaluations print it; `then` is said where a server has to be started first."""
NO_MODULE = re.compile(r"No module named '?([\w.]+)")
TAIL = 20_000
"""Characters of output that are kept."""

Say = Callable[[str], None]


class Follower:
    """Prints a job's output, each part of it once.

    Attributes:
        end: the last characters that were printed.
        mlflow_run: address of the last MLflow run that the job named.
    """

    def __init__(self, dashboard: Dashboard, submission_id: str, say: Say) -> None:
        self.end = ""
        self.mlflow_run: str | None = None
        self._dashboard, self._id, self._say = dashboard, submission_id, say
        self._client = open_client(dashboard)
        self._printed, self._pause = 0, FIRST_PAUSE
        self._lost_since: float | None = None
        self._message = ""

    def follow(self) -> dict[str, Any]:
        """Print until the job ends; returns what the cluster says of it then.

        Raises:
            ClusterError: the cluster does not answer any more, or has forgotten the job.
            KeyboardInterrupt: the job goes on.
        """
        while True:
            try:
                self._dashboard.job(self._id)  # of a job that it has forgotten, Ray's log tells no end and no error
                asyncio.run(self._print_what_comes())
                job = self._dashboard.job(self._id)
                if job["status"] in ENDED:
                    self._write(self._client.get_job_logs(self._id)[self._printed :])
                    return job
            except UnknownJobError as error:
                raise ClusterError(
                    f"{self._dashboard.address} has forgotten job {self._id}: its head was started anew; the same "
                    "command continues what it was doing"
                ) from error
            except (UnreachableError, RuntimeError, OSError, aiohttp.ClientError) as error:
                self._note_loss(error)
            time.sleep(self._pause)
            self._pause = min(LONGEST_PAUSE, self._pause * 1.5)

    async def _print_what_comes(self) -> None:
        """Print, from the first part that was not printed, until the connection or the job ends."""
        position = 0
        parts = self._client.tail_job_logs(self._id)
        while (part := await self._next(parts)) is not None:
            self._lost_since, self._pause = None, FIRST_PAUSE
            self._write(part[max(0, self._printed - position) :])
            position += len(part)

    async def _next(self, parts: AsyncIterator[str]) -> str | None:
        """The next part; None at the end. While nothing comes, the cluster is asked whether it is there."""
        waiting = asyncio.ensure_future(anext(parts, None))
        try:
            while not (await asyncio.wait([waiting], timeout=SILENCE))[0]:
                job = await asyncio.to_thread(self._dashboard.job, self._id)
                self._tell_why_it_waits(job)
            return waiting.result()
        finally:
            waiting.cancel()

    def _note_loss(self, error: Exception) -> None:
        now = time.monotonic()
        if self._lost_since is None:
            self._lost_since = now
            self._say(f"connection to {self._dashboard.address} lost; the job goes on, trying again")
        if now - self._lost_since > PATIENCE:
            raise UnreachableError(
                f"{self._dashboard.address} has not answered for {PATIENCE / 60:.0f} min; the job may go on: "
                f"mrqm jobs logs {self._id} --follow"
            ) from error

    def _tell_why_it_waits(self, job: dict[str, Any]) -> None:
        if job["status"] == "PENDING" and job["message"] and job["message"] != self._message:
            self._message = job["message"]
            self._say(f"waiting: {self._message}")

    def _write(self, text: str) -> None:
        self._printed += len(text)
        self.end = (self.end + text)[-TAIL:]
        if found := MLFLOW_RUN.findall(self.end):
            self.mlflow_run = found[-1]
        sys.stdout.write(text)
        sys.stdout.flush()


def exit_code(job: dict[str, Any]) -> int:
    """Of the job's command, as a shell has it; 1 if it could not even start."""
    code = job["driver_exit_code"]
    if job["status"] == "STOPPED":
        return TERMINATED
    if code is None:
        return 0 if job["status"] == "SUCCEEDED" else 1
    return int(code) if code >= 0 else 128 - int(code)


def describe_end(job: dict[str, Any], follower: Follower) -> list[str]:
    """What came of a job that was followed, and where its MLflow run is."""
    lines = []
    if job["status"] == "FAILED":
        if job["driver_exit_code"] is None:
            lines.append(f"error: the job did not start: {_last_lines(job['message'])}")
        elif job["driver_exit_code"] == NOT_FOUND:
            lines.append("error: the cluster has no `python` on the PATH with which Ray was started there")
        elif missing := NO_MODULE.search(follower.end):
            lines.append(
                f"error: the cluster's Python has no module {missing[1]}; install the versions of constraints.txt on "
                "every node, or use the image (cluster/Dockerfile)"
            )
    lines.append(f"job {job['submission_id']} {job['status'].lower()}, exit code {exit_code(job)}")
    if follower.mlflow_run:
        lines.append(f"mlflow run {follower.mlflow_run}")
    return lines


def _last_lines(message: str | None) -> str:
    lines = [line for line in (message or "").splitlines() if line.strip()]
    return "\n".join(lines[-3:]) or "Ray says no more"
