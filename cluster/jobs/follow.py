"""Streaming of a job's output until the job ends, across broken connections."""

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
"""Seconds without output until the cluster is asked for the job's status."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""Seconds between attempts to reach a cluster again."""
PATIENCE = 900.0
"""Seconds without an answer until following ends; the job may still run."""
TERMINATED = 143
"""Exit code of a shell for a command that SIGTERM ended, as it ends stopped jobs."""
NOT_FOUND = 127
"""Exit code of a shell for a command that does not exist."""
MLFLOW_RUN = re.compile(r"(?<!then )https?://\S+/#/runs/[0-9a-f]{32}\b")
"""Address of an MLflow run as commands print it; after `then` it belongs to a server that has to be started first."""
NO_MODULE = re.compile(r"No module named '?([\w.]+)")
TAIL = 20_000
"""Characters of output to keep."""

Say = Callable[[str], None]


class Follower:
    """Prints a job's output, each part of it once.

    Args:
        dashboard: dashboard of the cluster.
        submission_id: id of the job.
        say: printer of notes to the user.

    Attributes:
        end: last `TAIL` characters that were printed.
        mlflow_run: address of the last MLflow run that the job printed; None before it prints one.
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
        """Print until the job ends.

        Returns:
            The job as the cluster describes it at its end.

        Raises:
            ClusterError: the cluster does not answer any more, or has no record of the job.
            KeyboardInterrupt: the user pressed Ctrl-C; the job continues.
        """
        while True:
            try:
                self._dashboard.job(self._id)  # the log of an unknown job would never end, and raise no error
                asyncio.run(self._print_output())
                job = self._dashboard.job(self._id)
                if job["status"] in ENDED:
                    self._write(self._client.get_job_logs(self._id)[self._printed :])
                    return job
            except UnknownJobError as error:
                raise ClusterError(
                    f"{self._dashboard.address} has no record of job {self._id} any more: its head was restarted; the "
                    "same command resumes its work"
                ) from error
            except (UnreachableError, RuntimeError, OSError, aiohttp.ClientError) as error:
                self._note_loss(error)
            time.sleep(self._pause)
            self._pause = min(LONGEST_PAUSE, self._pause * 1.5)

    async def _print_output(self) -> None:
        """Print the output that was not printed yet, until the connection or the job ends."""
        position = 0
        parts = self._client.tail_job_logs(self._id)
        while (part := await self._next(parts)) is not None:
            self._lost_since, self._pause = None, FIRST_PAUSE
            self._write(part[max(0, self._printed - position) :])
            position += len(part)

    async def _next(self, parts: AsyncIterator[str]) -> str | None:
        """Return the next part of the output, None at its end; without output, check that the cluster answers."""
        waiting = asyncio.ensure_future(anext(parts, None))
        try:
            while not (await asyncio.wait([waiting], timeout=SILENCE))[0]:
                job = await asyncio.to_thread(self._dashboard.job, self._id)
                self._report_pending(job)
            return waiting.result()
        finally:
            waiting.cancel()

    def _note_loss(self, error: Exception) -> None:
        now = time.monotonic()
        if self._lost_since is None:
            self._lost_since = now
            self._say(f"connection to {self._dashboard.address} lost; the job continues, reconnecting")
        if now - self._lost_since > PATIENCE:
            raise UnreachableError(
                f"{self._dashboard.address} has not answered for {PATIENCE / 60:.0f} min; the job may still run: "
                f"mrqm jobs logs {self._id} --follow"
            ) from error

    def _report_pending(self, job: dict[str, Any]) -> None:
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
    """Return the exit code of a job's command as a shell would; 1 if the command did not start."""
    code = job["driver_exit_code"]
    if job["status"] == "STOPPED":
        return TERMINATED
    if code is None:
        return 0 if job["status"] == "SUCCEEDED" else 1
    return int(code) if code >= 0 else 128 - int(code)


def describe_end(job: dict[str, Any], follower: Follower) -> list[str]:
    """Describe how a job ended, and the address of its MLflow run.

    Args:
        job: job as the cluster describes it.
        follower: follower that printed its output.

    Returns:
        Lines for the user.
    """
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
    return "\n".join(lines[-3:]) or "Ray gives no reason"
