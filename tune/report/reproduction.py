"""The command that trains a sweep's best trial again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from pipelines.console.format import command
from pipelines.process.job_cwd import as_submitted
from tune.context import SweepContext
from tune.space.schema import overrides


def reproduce(sweep: SweepContext, params: Mapping[str, Any]) -> str:
    """Make the command that trains a trial again.

    Args:
        sweep: sweep that the trial belongs to.
        params: parameters of the trial, by dotted key.

    Returns:
        Command line for a shell.
    """
    own = [word for word in sweep.request.words if not word.startswith("name=")]
    words = [*overrides(sweep.space.fixed), *own, *overrides(params), f"name={sweep.config.name}-best"]
    return f"{command('mrqm')} train -c {as_submitted(sweep.request.config)} {shlex.join(words)}"
