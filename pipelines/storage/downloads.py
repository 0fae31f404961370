"""Downloads of a store's files into a folder: those that are missing or changed, by size and time as rsync does."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pyarrow.fs import FileSelector, FileSystem

from mrqm.files import part_of

DOWNLOADS = 16
"""Number of parallel downloads."""
CHUNK = 2**20


class Version(NamedTuple):
    """Size of a file in bytes and its modification time in seconds since 1970, which identify its content."""

    size: int
    time: int


def list_store(filesystem: FileSystem, folder: str) -> dict[str, Version]:
    """List the files of a folder in a store, with their versions.

    Args:
        filesystem: file system of the store.
        folder: path of the folder on it.

    Returns:
        Versions by path within the folder.
    """
    found = filesystem.get_file_info(FileSelector(folder, recursive=True))
    return {
        info.path.removeprefix(folder).lstrip("/"): Version(info.size, int(info.mtime.timestamp()))
        for info in found
        if info.is_file
    }


def list_folder(folder: Path) -> dict[str, Version]:
    """List the files of a folder on this machine by their path within it, with their versions."""
    files = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path.relative_to(folder).as_posix(): Version(at.st_size, int(at.st_mtime)) for path, at in files.items()}


def total_size(files: Mapping[str, Version]) -> int:
    """Add up the sizes of files in bytes."""
    return sum(version.size for version in files.values())


def download(filesystem: FileSystem, source: str, target: Path, files: Mapping[str, Version]) -> None:
    """Download files in parallel; each appears once it is complete.

    Args:
        filesystem: file system of the store.
        source: path of the folder on it.
        target: folder on this machine.
        files: versions of the files by their path within the folder.

    Raises:
        OSError: the store cannot be read, or the disk is full.
    """
    ended = threading.Event()

    def fetch(name: str) -> None:
        _download(filesystem, f"{source}/{name}", target / name, files[name], ended)

    with ThreadPoolExecutor(DOWNLOADS) as pool:
        try:
            list(pool.map(fetch, files))
        finally:
            ended.set()  # else the pool would wait for complete downloads, also after Ctrl-C


def _download(filesystem: FileSystem, source: str, target: Path, version: Version, ended: threading.Event) -> None:
    """Copy a file; stop early once `ended` is set."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(target)
    with filesystem.open_input_stream(source) as remote, part.open("wb") as local:
        while chunk := remote.read(CHUNK):
            if ended.is_set():
                return
            local.write(chunk)
    os.utime(part, (version.time, version.time))
    part.replace(target)
