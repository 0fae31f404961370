"""The files of a folder that are sent to the cluster: those that Ray would pack, known before anything is sent.

As with `ray job submit --working-dir`, the `.gitignore` and `.rayignore` of every folder count, and `.git`, virtual
environments and caches are left out. So are the secrets of clusters.
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
"""Bytes that Ray's job server accepts at most."""
LEFT_OUT = (".git", ".venv", "venv", "__pycache__", "/.cluster", "/cluster/secrets", "/cluster/state")
IGNORE_FILES = (".gitignore", ".rayignore")
SHOWN = 5
"""Files and folders to name of a package that is too large."""

Ignores = Callable[[str], bool]


@dataclass(frozen=True)
class Package:
    """Files of a folder.

    Attributes:
        root: path of the folder.
        files: sizes in bytes, by path relative to the folder.
    """

    root: Path
    files: dict[str, int]

    @cached_property
    def size(self) -> int:
        """Size in bytes, before compression."""
        return sum(self.files.values())

    def describe(self) -> str:
        """Describe the package: `214 files, 1.2 MB`."""
        return f"{len(self.files):,} files, {naturalsize(self.size)}"

    def require_small(self) -> None:
        """Refuse a package that Ray's job server would refuse after the upload.

        Raises:
            ClusterError: the package is too large; the message names its largest files and folders.
        """
        if self.size <= LIMIT:
            return
        lines = [f"  {naturalsize(size):>12}  {name}" for name, size in self.largest()]
        raise ClusterError(
            f"{self.root} has {self.describe()} to send, and Ray accepts {naturalsize(LIMIT)} at most:\n"
            + "\n".join(lines)
            + f"\nlist what jobs do not need in {self.root / '.rayignore'} (written like .gitignore), and put data "
            "where the cluster reads it: on a share, or at a URI"
        )

    def largest(self) -> list[tuple[str, int]]:
        """Return the largest files and folders, largest first; a folder with one dominant entry is that entry."""
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
        """Pack the files; the same files give the same bytes, so that Ray sends no package that it has already."""
        with ZipFile(path, "w", ZIP_DEFLATED) as archive:
            for name in sorted(self.files):
                entry = ZipInfo(name)
                entry.external_attr = stat.S_IMODE((self.root / name).stat().st_mode) << 16
                entry.compress_type = ZIP_DEFLATED
                archive.writestr(entry, (self.root / name).read_bytes())


def pack(root: Path) -> Package:
    """List the files of a folder that are sent.

    Raises:
        ClusterError: there is no such folder, or a file of it cannot be read.
    """
    if not root.is_dir():
        raise ClusterError(f"--working-dir={root}: no such folder")
    try:
        files = {
            path.relative_to(root).as_posix(): path.stat().st_size for path in _walk(root, [_ignores(root, LEFT_OUT)])
        }
    except OSError as error:
        raise ClusterError(f"{error.filename}: a file to send cannot be read: {error.strerror}") from error
    return Package(root, files)


def _walk(folder: Path, ignored: list[Ignores], within: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yield the files below a folder that are not ignored; links to folders are followed, circles are not."""
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
    """Make a function that tells if the patterns of a folder match a path; a folder's path ends with a slash."""
    spec = PathSpec.from_lines("gitignore", lines)
    beginning = len(f"{folder}/")
    return lambda path: spec.match_file(path[beginning:])
