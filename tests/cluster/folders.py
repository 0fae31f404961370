"""Folders in which commands are run as users run them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..pages import ROOT

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Place:
    """A folder, and the environment in which commands run there."""

    folder: Path
    environment: dict[str, str]

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", *(words if words[0] == "mrqm" else ("ray.scripts.scripts", *words[1:]))]

    def run(self, *words: str, timeout: float = 280, **variables: str) -> Done:
        """Run `mrqm …` or `ray …` to its end."""
        return subprocess.run(
            self.command(*words), cwd=self.folder, env=self.environment | variables, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip


def environment(home: Path) -> dict[str, str]:
    """Make an environment with the code under test, and without clusters, stores or tokens of the user."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "MRQM_"))}
    return own | {"HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
