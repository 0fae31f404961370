"""What of a folder travels to the cluster: what Ray would pack, known before anything is sent.

As by `ray job submit --working-dir`, `.gitignore` and `.rayignore` of every folder count, and `.git`, virtual
environments and caches stay. Whatever belongs to a cluster's secrets stays too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from humanize import naturalsize
from pathspec import PathSpec

from cluster.errors import ClusterError

LIMIT = 100 * 2**20
"""Bytes: Ray's job server refuses larger packages."""
STAYS = (".git", ".venv", "venv", "__pycache__", "/.cluster", "/cluster/secrets", "/cluster/state")
IGNORE_FILES = (".gitignore", ".rayignore")
SHOWN = 5
"""Of what makes a package too large."""

Ignores = Callable[[str], bool]


@dataclass(frozen=True)
class Package:
    """Files of a folder.

    Attributes:
        root: the folder.
        files: bytes by path, seen from the folder.
    """

    root: Path
    files: dict[str, int]

    @cached_property
    def size(self) -> int:
        """Bytes, before compression."""
        return sum(self.files.values())

    def describe(self) -> str:
        """Number and size of the files: `214 files, 1.2 MB`."""
        return f"{len(self.files):,} files, {naturalsize(self.size)}"

    def require_small(self) -> None:
        """Refuse what Ray's job server would refuse after the upload.

        Raises:
            ClusterError: it is too large; the message names what takes most of it.
        """
        if self.size <= LIMIT:
            return
        lines = [f"  {naturalsize(size):>12}  {name}" for name, size in self.largest()]
        raise ClusterError(
            f"{self.root} has {self.describe()} that would travel, and Ray takes {naturalsize(LIMIT)} at most:\n"
            + "\n".join(lines)
            + f"\nput what jobs do not need into {self.root / '.rayignore'} (it reads like .gitignore), and data where "
            "the cluster sees it: a share, or a URI"
        )

    def largest(self) -> list[tuple[str, int]]:
        """Files and folders that take most, the largest first; of a folder that is nearly one thing, that thing."""
        sizes: dict[str, int] = dict(self.files)
        children: dict[str, set[str]] = {}
        for name, size in self.files.items():
            child = name
            for parent in PurePosixPath(name).parents:
                folder = f"{parent}/"
                if child not in (known := children.setdefault(folder, set())):
                    known.add(child)
                sizes[folder] = sizes.get(folder, 0) + size
                child = folder
        found = []
        for name in children.get("./", set()):
            while below := [child for child in children.get(name, ()) if sizes[child] > 0.9 * sizes[name]]:
                name = below[0]
            found.append((name, sizes[name]))
        return sorted(found, key=lambda entry: -entry[1])[:SHOWN]

    def write_zip(self, path: Path) -> None:
        """Pack the files; the same files give the same bytes, so that a cluster that has them is sent nothing."""
        with ZipFile(path, "w", ZIP_DEFLATED) as archive:
            for name in sorted(self.files):
                entry = ZipInfo(name)
                entry.external_attr = stat.S_IMODE((self.root / name).stat().st_mode) << 16
                entry.compress_type = ZIP_DEFLATED
                archive.writestr(entry, (self.root / name).read_bytes())


def pack(root: Path) -> Package:
    """What of a folder travels.

    Raises:
        ClusterError: there is no such folder, or a file of it cannot be read.
    """
    if not root.is_dir():
        raise ClusterError(f"--working-dir={root}: no such folder")
    try:
        files = {
            path.relative_to(root).as_posix(): path.stat().st_size for path in _walk(root, [_ignores(root, STAYS)])
        }
    except OSError as error:
        raise ClusterError(f"{error.filename}: what travels cannot be read: {error.strerror}") from error
    return Package(root, files)


def _walk(folder: Path, ignored: list[Ignores], within: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Files below a folder that are not ignored; links to folders are followed, but in no circle."""
    place = folder.resolve()
    if place in within:
        return
    ignored = [
        *ignored,
        *(_ignores(folder, (folder / n).read_text().splitlines()) for n in IGNORE_FILES if (folder / n).is_file()),
    ]
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        is_folder = entry.is_dir()
        if any(ignores(f"{entry.path}/" if is_folder else entry.path) for ignores in ignored):
            continue
        if is_folder:
            yield from _walk(Path(entry.path), ignored, within | {place})
        elif entry.is_file():
            yield Path(entry.path)


def _ignores(folder: Path, lines: tuple[str, ...] | list[str]) -> Ignores:
    """Whether the patterns of a folder match a path; that of a folder ends with a slash."""
    spec = PathSpec.from_lines("gitignore", lines)
    beginning = len(f"{folder}/")
    return lambda path: spec.match_file(path[beginning:])
