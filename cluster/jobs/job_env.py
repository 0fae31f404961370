"""The environment variables that a job gets from its submitter.

Ray keeps a job's environment readable: in the answers of its job server to whoever has the token (masked for browsers
only), in its log files and its tables. Secrets are therefore refused: credentials belong into files on the nodes.
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
    """Collect the variables of a job: MLFLOW_TRACKING_URI if it names a server, and those that the user asks for.

    Args:
        wanted: variables as `NAME`, with this process's value, or `NAME=VALUE`.
        environ: environment of this process.
        redact: function that removes secrets from a text.

    Returns:
        Values by name, and notes for the user.

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
                f"{name} contains a secret, and Ray shows the environment of jobs; put credentials into files on the "
                "nodes, such as ~/.mlflow/credentials and ~/.aws/credentials (docs/guides/clusters/security.md)"
            )
    return variables, notes


def _is_of_this_machine(uri: str) -> bool:
    parts = urlsplit(uri)
    return parts.scheme in ("", "file", "sqlite") or (parts.hostname or "") in LOOPBACK
