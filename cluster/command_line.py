"""The command that is submitted: what it is called, which files it needs, and what it looks for on the cluster."""

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
"""Options whose files travel with the job."""
ON_THE_CLUSTER = ("data.root", "model.backbone.weights")
"""Settings that name what the cluster reads."""
READERS = ("evaluate", "predict", "prepare")
"""Commands whose arguments are read on the cluster."""


@dataclass(frozen=True)
class CommandLine:
    """The words after `mrqm`, as the cluster will get them.

    Attributes:
        words: the command, its options and settings.
        settings: those of its configuration that words or file give, by dotted key.
    """

    words: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def entrypoint(self) -> str:
        """As the cluster's shell gets it."""
        return shlex.join(("python", "-m", "mrqm", *self.words))

    @property
    def computes_itself(self) -> bool:
        """Whether the work is done in the job's own process, and not by workers that Ray gives resources."""
        spread = any(word.partition("=")[0] == "--workers" for word in self.words)
        return self.words[0] == "evaluate" or (self.words[0] == "predict" and not spread)

    def submission_id(self, now: datetime) -> str:
        """A name to find it by: `visdrone_r50-20261124-153012`."""
        name = str(self.settings.get("name") or self.words[0])
        return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}-{now:%Y%m%d-%H%M%S}"

    def find_what_stays(self, root: Path) -> list[str]:
        """What the command reads, lies on this machine, and does not reach the cluster with it."""
        named = {key: str(self.settings[key]) for key in ON_THE_CLUSTER if key in self.settings}
        named |= {word: word for before, word in pairwise(self.words) if self._is_read(before, word)}
        return [
            key if key == value else f"{key}={value}"
            for key, value in named.items()
            if "://" not in value and not value.startswith("models:/") and (root / value).exists()
        ]

    def _is_read(self, before: str, word: str) -> bool:
        return self.words[0] in READERS and not before.startswith("-") and not word.startswith("-") and "=" not in word


ReadFile = Callable[[Sequence[str], Path], Mapping[str, Any]]
"""Gives what the configuration file says that a command's words name, if they do, in the folder of its files."""


def read_command_line(
    words: Sequence[str], package: Package, read: ReadFile, redact: Callable[[str], str]
) -> CommandLine:
    """Check a command against what travels with it.

    Args:
        words: after `mrqm`.
        package: that travels.
        read: reads the configuration; it may refuse what the command itself would refuse.
        redact: a text without its secrets.

    Raises:
        ClusterError: a file that it needs does not travel, or a password would be shown.
    """
    checked = list(words)
    for index, word in enumerate(checked):
        if redact(word) != word:
            raise ClusterError(
                f"{redact(word)}: it holds a password or token, and Ray shows the command lines of jobs; put "
                "credentials into files on the nodes (docs/clusters/security.md)"
            )
        option, equals, value = word.partition("=")
        if option in FILES and equals:
            checked[index] = f"{option}={_that_travels(option, value, package)}"
            _require_open(package.root / value, redact)
        elif index and checked[index - 1] in FILES:
            checked[index] = _that_travels(checked[index - 1], word, package)
            _require_open(package.root / word, redact)
    overrides = [word.partition("=") for word in checked if "=" in word and not word.startswith("-")]
    settings = _flatten(read(checked, package.root)) | {key: value for key, _, value in overrides}
    return CommandLine(tuple(checked), settings)


def _require_open(path: Path, redact: Callable[[str], str]) -> None:
    """Refuse a file with a password in it: every job of the cluster can read what travels."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if redact(line) != line:
            raise ClusterError(
                f"{path}, line {number}: holds a password or token, and Ray keeps the files of jobs for all to read; "
                "put credentials into files on the nodes (docs/clusters/security.md)"
            )


def _that_travels(option: str, value: str, package: Package) -> str:
    """The path of a file as the cluster finds it."""
    path, root = package.root / value, package.root
    if not path.exists():
        if Path(value).is_absolute():  # a file of the cluster's image
            return value
        raise ClusterError(f"{option} {value}: there is no such file in {root}, which is what travels")
    try:
        inside = PurePosixPath(path.resolve().relative_to(root.resolve())).as_posix()
    except ValueError as error:
        raise ClusterError(
            f"{option} {value}: lies outside of {root}, which is what travels; copy it there, or name a folder that "
            "holds both with --working-dir"
        ) from error
    if inside not in package.files:
        raise ClusterError(
            f"{option} {value}: does not travel, because a .gitignore or .rayignore of {root} matches it; move it, or "
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
