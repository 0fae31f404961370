"""Which of the submitter's environment a job gets.

Ray keeps a job's environment readable: in the answers of its job server to whoever has the token (only browsers see it
masked), in its log files and its tables. So nothing secret goes there: credentials lie in files on the nodes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from cluster.errors import ClusterError

TRACKING = "MLFLOW_TRACKING_URI"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SECRET = re.compile(r"TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE", re.IGNORECASE)


def make_job_env(
    wanted: Sequence[str], environ: Mapping[str, str], redact: Callable[[str], str]
) -> tuple[dict[str, str], list[str]]:
    """The variables that a job gets: MLFLOW_TRACKING_URI if it names a server, and what is wanted.

    Args:
        wanted: `NAME`, with this process's value, or `NAME=VALUE`.
        environ: of this process.
        redact: a text without its secrets.

    Returns:
        Values by name, and what to tell the user.

    Raises:
        ClusterError: something secret would be shown, or a variable is not set.
    """
    variables, notes = {}, []
    if uri := environ.get(TRACKING):
        if _is_of_this_machine(uri):
            notes.append(f"{TRACKING}={redact(uri)} is this machine's own: the job uses the cluster's")
        else:
            variables[TRACKING] = uri
    for word in wanted:
        name, equals, value = word.partition("=")
        if not equals and name not in environ:
            raise ClusterError(f"--env {name}: is not set here; set it, or give --env {name}=VALUE")
        variables[name] = value if equals else environ[name]
    for name, value in variables.items():
        if SECRET.search(name) or redact(value) != value:
            raise ClusterError(
                f"{name} holds a secret, and Ray shows the environment of jobs; put credentials into files on the "
                "nodes, such as ~/.mlflow/credentials and ~/.aws/credentials (docs/clusters/security.md)"
            )
    return variables, notes


def _is_of_this_machine(uri: str) -> bool:
    parts = urlsplit(uri)
    return parts.scheme in ("", "file", "sqlite") or (parts.hostname or "") in LOOPBACK
