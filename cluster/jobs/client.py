"""Ray's own client of its job server."""

from __future__ import annotations

import logging
import os

from ray.job_submission import JobSubmissionClient

from cluster.dashboard import Dashboard
from cluster.errors import UnreachableError


def open_client(dashboard: Dashboard) -> JobSubmissionClient:
    """A client of the cluster whose dashboard has answered.

    Raises:
        UnreachableError: it does not any more.
    """
    for module in ("dashboard_sdk", "job.sdk"):  # they log every request
        logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.ERROR)
    os.environ["RAY_API_SERVER_ADDRESS"] = dashboard.address  # which wins over the argument
    try:
        return JobSubmissionClient(dashboard.address, headers=dashboard.headers)
    except (RuntimeError, OSError) as error:
        raise UnreachableError(f"{dashboard.address} does not answer any more: {error}") from error


def request_stop(dashboard: Dashboard, submission_id: str) -> None:
    """Ask a job to end; it gets SIGTERM, and is killed if that does not help.

    Raises:
        UnreachableError: the cluster does not take the request.
    """
    client = open_client(dashboard)
    try:
        client.stop_job(submission_id)
    except (RuntimeError, OSError) as error:
        raise UnreachableError(f"{dashboard.address} did not stop job {submission_id}: {error}") from error
