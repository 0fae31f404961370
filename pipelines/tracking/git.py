"""The git commit of the running code."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from git import Repo
from git.exc import CommandError, InvalidGitRepositoryError


@dataclass(frozen=True)
class Checkout:
    """The state of a git work tree.

    Attributes:
        commit: id of the checked-out commit.
        branch: name of the checked-out branch.
        diff: uncommitted changes of tracked text files, for `git apply`; empty if there are none.
    """

    commit: str
    branch: str
    diff: str


def code_commit(folder: Path) -> str | None:
    """Return the commit of a folder of code, with the suffix `-dirty` if tracked files were changed; None without git.

    Code that is not tracked by the repository around it, as an installed package may be, has no commit.
    """
    with suppress(InvalidGitRepositoryError, CommandError):
        git = Repo(folder, search_parent_directories=True).git(C=folder)
        git.ls_files("__init__.py", error_unmatch=True)
        return str(git.describe(always=True, abbrev=40, exclude="*", dirty=True))
    return None


def find_checkout(folder: Path) -> Checkout | None:
    """Find the git work tree around a folder; None if there is none, or no commit, or no git."""
    with suppress(InvalidGitRepositoryError, CommandError):
        git = Repo(folder, search_parent_directories=True).git
        diff = git.diff("HEAD", no_ext_diff=True, no_color=True, stdout_as_string=False, strip_newline_in_stdout=False)
        branch = git.rev_parse("HEAD", abbrev_ref=True)
        return Checkout(git.rev_parse("HEAD"), branch, diff.decode(errors="replace"))
    return None
