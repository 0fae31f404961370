"""Ray's own client of its job server."""

from __future__ import annotations

import logging
import os

from ray.job_submission import JobSubmissionClient

from cluster.dashboard import Dashboard
from cluster.errors import UnreachableError


def open_client(dashboard: Dashboard) -> JobSubmissionClient:
    """Open a client of a cluster's job server.

    Raises:
        UnreachableError: the cluster does not answer any more.
    """
    for module in ("dashboard_sdk", "job.sdk"):  # both log every request
        logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.ERROR)
    os.environ["RAY_API_SERVER_ADDRESS"] = dashboard.address  # takes precedence over the argument
    try:
        return JobSubmissionClient(dashboard.address, headers=dashboard.headers)
    except (RuntimeError, OSError) as error:
        raise UnreachableError(f"{dashboard.address} does not answer any more: {error}") from error


def request_stop(dashboard: Dashboard, submission_id: str) -> None:
    """Ask a job to end; it gets SIGTERM, and is killed if it does not end.

    Args:
        dashboard: dashboard of the cluster.
        submission_id: id of the job.

    Raises:
        UnreachableError: the cluster does not accept the request.
    """
    client = open_client(dashboard)
    try:
        client.stop_job(submission_id)
    except (RuntimeError, OSError) as error:
        raise UnreachableError(f"{dashboard.address} did not stop job {submission_id}: {error}") from error
