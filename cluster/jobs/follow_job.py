"""Follow a job until it ends; Ctrl-C asks whether to stop it, to detach, or to follow further."""

from __future__ import annotations

from collections.abc import Callable

from cluster.dashboard import Dashboard
from cluster.jobs.client import request_stop
from cluster.jobs.follow import Follower, describe_end, exit_code
from cluster.jobs.prompt import ask_what_to_do

DETACHED = 130
"""Exit code of a shell for a command that Ctrl-C ended."""

Say = Callable[[str], None]


def follow_job(dashboard: Dashboard, submission_id: str, say: Say) -> int:
    """Print a job's output until it ends or the user detaches.

    Args:
        dashboard: dashboard of the cluster.
        submission_id: id of the job.
        say: printer of lines for the user.

    Returns:
        The job's exit code; 130 if the user detached.

    Raises:
        ClusterError: the cluster does not answer any more, or has no record of the job.
    """
    follower = Follower(dashboard, submission_id, say)
    while True:
        try:
            job = follower.follow()
        except KeyboardInterrupt:
            answer = ask_what_to_do(submission_id)
            if answer == "detach":
                say(f"job {submission_id} continues; {describe_commands(submission_id)}")
                return DETACHED
            if answer == "stop":
                say(f"stopping job {submission_id}")
                request_stop(dashboard, submission_id)
            continue
        for line in describe_end(job, follower):
            say(line)
        return exit_code(job)


def describe_commands(submission_id: str) -> str:
    """Describe the commands that follow and stop a job."""
    return f"follow it: mrqm jobs logs {submission_id} --follow; stop it: mrqm jobs stop {submission_id}"
