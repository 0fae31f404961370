"""Where a job's relative paths lie: in the cluster's own folder, not in the copy of the submitter's that Ray deletes.

The folder is MRQM_ROOT, which the files of `cluster/` set to what all nodes share, else `~/mrqm`. Only the files that a
command is told to read first, configuration and search space, come with the job.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from mrqm.errors import UserError

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""In the environment of what Ray's job server starts."""
SUBMITTED_IN = "MRQM_CAME_IN"
"""In the environment of a job that left it: the folder that came with it."""


class JobDirectoryError(UserError):
    """The folder of a job's relative paths cannot be entered on its node."""


def enter_job_cwd(arguments: Sequence[str], file_options: Sequence[str]) -> list[str]:
    """Make the cluster's folder the current one.

    Args:
        arguments: words of the command.
        file_options: options whose files came with the job.

    Returns:
        The arguments, with absolute paths of files that came with the job.

    Raises:
        JobDirectoryError: the folder is not there, or cannot be entered.
    """
    came_with_the_job = [_find(option, argument, file_options) for option, argument in pairwise(["", *arguments])]
    os.environ[SUBMITTED_IN] = str(Path.cwd())
    root = os.environ.get("MRQM_ROOT")
    place = Path(root or "~/mrqm").expanduser()
    try:
        if root is None:
            place.mkdir(parents=True, exist_ok=True)
            print(f"MRQM_ROOT is not set on this cluster: relative paths lie in {place}", flush=True)
        os.chdir(place)
    except OSError as error:
        raise JobDirectoryError(
            f"{'MRQM_ROOT=' if root else ''}{place}: the folder of jobs cannot be entered on this node: "
            f"{error.strerror}; mount what all nodes share there"
        ) from error
    return came_with_the_job


def as_submitted(path: Path) -> Path:
    """A file as its submitter named it, who knows nothing of where a job's files lie; others as they are."""
    came_in = os.environ.get(SUBMITTED_IN)
    return path.relative_to(came_in) if came_in and path.is_relative_to(came_in) else path


def _find(option: str, argument: str, file_options: Sequence[str]) -> str:
    if option in file_options and Path(argument).exists():
        return str(Path(argument).absolute())
    name, equals, value = argument.partition("=")
    return f"{name}={Path(value).absolute()}" if name in file_options and equals and Path(value).exists() else argument
