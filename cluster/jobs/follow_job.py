"""Stay with a job until it ends, or until the user has had enough: Ctrl-C asks what it meant."""

from __future__ import annotations

from collections.abc import Callable

from cluster.dashboard import Dashboard
from cluster.jobs.client import request_stop
from cluster.jobs.follow import Follower, describe_end, exit_code
from cluster.jobs.prompt import ask_what_to_do

DETACHED = 130
"""As a shell has it: ended by Ctrl-C."""

Say = Callable[[str], None]


def follow_job(dashboard: Dashboard, submission_id: str, say: Say) -> int:
    """Print a job's output until it ends; returns the job's exit code, or 130 when it was left to itself.

    Raises:
        ClusterError: the cluster does not answer any more, or has forgotten the job.
    """
    follower = Follower(dashboard, submission_id, say)
    while True:
        try:
            job = follower.follow()
        except KeyboardInterrupt:
            answer = ask_what_to_do(submission_id)
            if answer == "detach":
                say(f"job {submission_id} goes on; {describe_commands(submission_id)}")
                return DETACHED
            if answer == "stop":
                say(f"stopping job {submission_id}")
                request_stop(dashboard, submission_id)
            continue
        for line in describe_end(job, follower):
            say(line)
        return exit_code(job)


def describe_commands(submission_id: str) -> str:
    """The commands for a job that nobody follows."""
    return f"follow it: mrqm jobs logs {submission_id} --follow; stop it: mrqm jobs stop {submission_id}"
