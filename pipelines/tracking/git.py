"""The commit of the code that runs."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


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
