"""The origin of a checkpoint as tags for the registry: enough to know code, configuration and weights again."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import mrqm
from mrqm.checkpoint import load_checkpoint_config
from mrqm.checkpoint_files import CONFIG, WEIGHTS
from mrqm.config import DataConfig
from mrqm.data.digest import file_digest

VIEW = "evaluation.view"


@dataclass(frozen=True)
class Checkout:
    """The state of a git work tree.

    Attributes:
        commit, branch: that are checked out.
        diff: what was changed since in tracked text files, as `git apply` takes it; empty if nothing was.
    """

    commit: str
    branch: str
    diff: str


def provenance(checkpoint: Path) -> dict[str, str]:
    """Tags of a checkpoint.

    Returns:
        `checkpoint.sha256` of the weights' file, `config.digest` of the configuration's, `evaluation.view`,
        `mrqm.version` and, where `mrqm` runs from a git checkout, `code.commit`.
    """
    tags = {
        "checkpoint.sha256": file_digest(checkpoint / WEIGHTS),
        "config.digest": file_digest(checkpoint / CONFIG),
        VIEW: describe_view(load_checkpoint_config(checkpoint).data),
        "mrqm.version": version("mrqm"),
    }
    commit = code_commit(Path(mrqm.__file__).parent)
    return tags | {"code.commit": commit} if commit else tags


def describe_view(data: DataConfig) -> str:
    """The view of images under which a model was scored: what is cut differently is scored on other objects."""
    if data.tile is None:
        return "full"
    cut = data.tile.model_dump(exclude={"keep_empty"})  # empty tiles: of training only
    cut |= {"scale": data.scale} if data.resize is None else data.resize.model_dump()
    return " ".join(["tiles", *(f"{key}={value}" for key, value in cut.items())])


def code_commit(folder: Path) -> str | None:
    """The commit of a folder of code, with `-dirty` after it if tracked files were changed; None outside of git.

    Code that lies in somebody else's repository, as an installed package may, is not that repository's.
    """
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    described = _git(folder, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    return described.strip() if described else None


def find_checkout(folder: Path) -> Checkout | None:
    """The git work tree that a folder lies in; None outside of one, without commits, or where git is missing."""
    commit, branch = _git(folder, "rev-parse", "HEAD"), _git(folder, "rev-parse", "--abbrev-ref", "HEAD")
    diff = _git(folder, "diff", "--no-ext-diff", "--no-color", "HEAD")
    if commit is None or branch is None or diff is None:
        return None
    return Checkout(commit.strip(), branch.strip(), diff)


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of git; None if it refuses or is missing."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(folder), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    return ended.stdout if ended.returncode == 0 else None
