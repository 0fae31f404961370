"""The working directory of a job: the cluster's own folder, not the copy of the submitter's that Ray deletes.

The folder is MRQM_ROOT, which the files of `cluster/` set to a folder that all nodes share, else `~/mrqm`. Only the
files that a command reads first, configuration and search space, are sent with the job.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from mrqm.errors import UserError

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Variable in the environment of processes that Ray's job server starts."""
SUBMITTED_IN = "MRQM_CAME_IN"
"""Variable with the folder that was sent with a job, once the job has left it."""


class JobDirectoryError(UserError):
    """A working directory that a job cannot enter on its node."""


def enter_job_cwd(arguments: Sequence[str], file_options: Sequence[str]) -> list[str]:
    """Make the cluster's folder the current one.

    Args:
        arguments: words of the command.
        file_options: options whose files were sent with the job.

    Returns:
        The arguments, with absolute paths of files that were sent with the job.

    Raises:
        JobDirectoryError: the folder does not exist, or cannot be entered.
    """
    absolute_arguments = [_find(option, argument, file_options) for option, argument in pairwise(["", *arguments])]
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
    return absolute_arguments


def as_submitted(path: Path) -> Path:
    """Return the path of a file that was sent with a job as its submitter wrote it, and any other path unchanged."""
    submitted = os.environ.get(SUBMITTED_IN)
    return path.relative_to(submitted) if submitted and path.is_relative_to(submitted) else path


def _find(option: str, argument: str, file_options: Sequence[str]) -> str:
    if option in file_options and Path(argument).exists():
        return str(Path(argument).absolute())
    name, equals, value = argument.partition("=")
    return f"{name}={Path(value).absolute()}" if name in file_options and equals and Path(value).exists() else argument
