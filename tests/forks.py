"""Processes forked from one that has imported what takes seconds: without it, most of what tests on Ray cost."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([  # not Ray, which reads its process's environment when it is imported
    "mrqm.__main__", "mrqm.engine.trainer", "fsspec", "grpc", "jsonschema", "matplotlib.pyplot", "mlflow", "optuna",
    "pandas", "pyarrow.dataset", "pyarrow.fs", "pytest", "requests", "rich.progress", "sklearn", "sqlalchemy",
])  # fmt: skip


def become_command(
    folder: Path, output: Path, errors: Path, foreign: tuple[str, ...], environment: Mapping[str, str]
) -> None:
    """Set folder, output files and environment of a process, as a shell does before a command runs.

    Args:
        folder: working folder.
        output: file to which standard output is appended.
        errors: file to which standard error is appended.
        foreign: prefixes of variables to remove from the environment.
        environment: variables to set.
    """
    os.chdir(folder)
    for number, path in enumerate((output, errors), 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    for name in [name for name in os.environ if name.startswith(foreign)]:
        del os.environ[name]
    os.environ.update(environment)
