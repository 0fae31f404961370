"""The command that is submitted: its name, the files that it needs, and the paths that it reads on the cluster."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from cluster.errors import ClusterError
from cluster.jobs.package import Package

FILES = ("-c", "--config", "-s", "--space")
"""Options whose files are sent with the job."""
ON_THE_CLUSTER = ("data.root", "model.backbone.weights", "model.init")
"""Configuration keys with paths that the cluster reads."""
READERS = ("evaluate", "predict", "prepare")
"""Commands whose arguments are read on the cluster."""


@dataclass(frozen=True)
class CommandLine:
    """The words after `mrqm`, as they are sent to the cluster.

    Attributes:
        words: command, options and overrides.
        settings: configuration values from the overrides and the configuration file, by dotted key.
    """

    words: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def entrypoint(self) -> str:
        """The command line for the cluster's shell."""
        return shlex.join(("python", "-m", "mrqm", *self.words))

    @property
    def computes_itself(self) -> bool:
        """True if the work is done in the job's own process, False if by workers with resources of their own."""
        spread = any(word.partition("=")[0] == "--workers" for word in self.words)
        return self.words[0] == "evaluate" or (self.words[0] == "predict" and not spread)

    def submission_id(self, now: datetime) -> str:
        """Make a job's id from the configuration's name and the time: `visdrone_r50-20261124-153012`."""
        name = str(self.settings.get("name") or self.words[0])
        return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}-{now:%Y%m%d-%H%M%S}"

    def find_local_paths(self, root: Path) -> list[str]:
        """Find the paths that the command reads on the cluster, and that exist on this machine alone."""
        named = {key: str(self.settings[key]) for key in ON_THE_CLUSTER if key in self.settings}
        named |= {word: word for before, word in pairwise(self.words) if self._is_read(before, word)}
        return [
            key if key == value else f"{key}={value}"
            for key, value in named.items()
            if "://" not in value and not value.startswith(("models:/", "runs:/")) and (root / value).exists()
        ]

    def _is_read(self, before: str, word: str) -> bool:
        return self.words[0] in READERS and not before.startswith("-") and not word.startswith("-") and "=" not in word


ReadFile = Callable[[Sequence[str], Path], Mapping[str, Any]]
"""Reads the configuration file that a command's words name, in a folder; an empty mapping if they name none."""


def read_command_line(
    words: Sequence[str], package: Package, read: ReadFile, redact: Callable[[str], str]
) -> CommandLine:
    """Check a command against the files that are sent with it.

    Args:
        words: command, options and overrides.
        package: files that are sent.
        read: reader of the configuration; it may raise what the command itself would raise.
        redact: function that removes secrets from a text.

    Returns:
        The command with the paths of its files as the cluster finds them, and its settings.

    Raises:
        ClusterError: a file that the command needs is not sent, or a password would be shown.
    """
    checked = list(words)
    for index, word in enumerate(checked):
        if redact(word) != word:
            raise ClusterError(
                f"{redact(word)}: contains a password or token, and Ray shows the command lines of jobs; put "
                "credentials into files on the nodes (docs/guides/clusters/security.md)"
            )
        option, equals, value = word.partition("=")
        if option in FILES and equals:
            checked[index] = f"{option}={_path_in_package(option, value, package)}"
            _require_no_secrets(package.root / value, redact)
        elif index and checked[index - 1] in FILES:
            checked[index] = _path_in_package(checked[index - 1], word, package)
            _require_no_secrets(package.root / word, redact)
    overrides = [word.partition("=") for word in checked if "=" in word and not word.startswith("-")]
    settings = _flatten(read(checked, package.root)) | {key: value for key, _, value in overrides}
    return CommandLine(tuple(checked), settings)


def _require_no_secrets(path: Path, redact: Callable[[str], str]) -> None:
    """Refuse a file with a password in it: every job of the cluster can read the files of every other."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if redact(line) != line:
            raise ClusterError(
                f"{path}, line {number}: contains a password or token, and every job can read the files of jobs; "
                "put credentials into files on the nodes (docs/guides/clusters/security.md)"
            )


def _path_in_package(option: str, value: str, package: Package) -> str:
    """Return the path of a file as the cluster finds it."""
    path, root = package.root / value, package.root
    if not path.exists():
        if Path(value).is_absolute():  # a file of the cluster's image
            return value
        raise ClusterError(f"{option} {value}: there is no such file in {root}, the folder that is sent")
    try:
        inside = PurePosixPath(path.resolve().relative_to(root.resolve())).as_posix()
    except ValueError as error:
        raise ClusterError(
            f"{option} {value}: lies outside of {root}, the folder that is sent; copy it there, or name a folder that "
            "contains both with --working-dir"
        ) from error
    if inside not in package.files:
        raise ClusterError(
            f"{option} {value}: is not sent, because a .gitignore or .rayignore of {root} matches it; move it, or "
            "change the pattern"
        )
    return inside


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
