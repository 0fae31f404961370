"""The commit of the code that runs."""

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
        commit, branch: names of what is checked out.
        diff: changes since in tracked text files, as `git apply` takes them; empty if there are none.
    """

    commit: str
    branch: str
    diff: str


def code_commit(folder: Path) -> str | None:
    """The commit of a folder of code, with `-dirty` after it if tracked files were changed; None outside of git.

    Code that lies in somebody else's repository, as an installed package may, is not that repository's.
    """
    with suppress(InvalidGitRepositoryError, CommandError):
        git = Repo(folder, search_parent_directories=True).git(C=folder)
        git.ls_files("__init__.py", error_unmatch=True)
        return str(git.describe(always=True, abbrev=40, exclude="*", dirty=True))
    return None


def find_checkout(folder: Path) -> Checkout | None:
    """The git work tree that a folder lies in; None outside of one, without commits, or where git is missing."""
    with suppress(InvalidGitRepositoryError, CommandError):
        git = Repo(folder, search_parent_directories=True).git
        diff = git.diff("HEAD", no_ext_diff=True, no_color=True, stdout_as_string=False, strip_newline_in_stdout=False)
        branch = git.rev_parse("HEAD", abbrev_ref=True)
        return Checkout(git.rev_parse("HEAD"), branch, diff.decode(errors="replace"))
    return None
