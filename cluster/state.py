"""What `mrqm cluster up` remembers in `.cluster/`, beside the token and the logs of what it started."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(".cluster")


@dataclass(frozen=True)
class State:
    """A cluster of this machine.

    Attributes:
        name: in the environment of each of its processes, and so the mark by which they are found.
        folder: in which it was started: jobs' relative paths lie there.
        dashboard: address of Ray's dashboard.
        mlflow: address of the MLflow server.
        ray_files: folder of Ray's sessions.
    """

    name: str
    folder: str
    dashboard: str
    mlflow: str
    ray_files: str

    @property
    def token_file(self) -> Path:
        """Of Ray's token."""
        return Path(self.folder) / FOLDER / "auth_token"


def read_state() -> State | None:
    """What was started in this folder and not ended with `mrqm cluster down`."""
    path = FOLDER / "cluster.json"
    return State(**json.loads(path.read_text())) if path.is_file() else None


def write_state(state: State) -> None:
    """Remember a cluster."""
    (FOLDER / "cluster.json").write_text(json.dumps(asdict(state), indent=2) + "\n")


def forget_state() -> None:
    """Remember none."""
    (FOLDER / "cluster.json").unlink(missing_ok=True)
