"""The state file of `mrqm cluster up` in `.cluster/`, next to the token and the logs of Ray and MLflow."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(".cluster")


@dataclass(frozen=True)
class State:
    """A cluster of this machine.

    Attributes:
        name: random name in the environment of each of the cluster's processes, by which they are found.
        folder: folder in which the cluster was started, and to which jobs' relative paths belong.
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
        """Path of Ray's token."""
        return Path(self.folder) / FOLDER / "auth_token"


def read_state() -> State | None:
    """Read the state of the cluster that was started in this folder; None if there is none."""
    path = FOLDER / "cluster.json"
    return State(**json.loads(path.read_text())) if path.is_file() else None


def write_state(state: State) -> None:
    """Write the state of a cluster into this folder."""
    (FOLDER / "cluster.json").write_text(json.dumps(asdict(state), indent=2) + "\n")


def forget_state() -> None:
    """Remove the state file of this folder."""
    (FOLDER / "cluster.json").unlink(missing_ok=True)
