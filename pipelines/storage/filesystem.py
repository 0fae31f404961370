"""A folder of a run, on a disk, on NFS or in any store that pyarrow or fsspec reaches: `runs/demo`, `s3://bucket/demo`.

Files appear whole or not at all. On disks they are renamed into place; object stores show an object only when all of it
has arrived.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow
from pyarrow.fs import FileSelector, FileSystem, FileType, FSSpecHandler, LocalFileSystem, PyFileSystem

from mrqm.errors import UserError
from mrqm.files import part_of, write_whole
from mrqm.redaction import redact

COPIED_AT_ONCE = 64 * 2**20


class StorageError(UserError):
    """A place for runs that cannot be written, or is too small."""


class Storage:
    """Reads and writes files of one folder; `open_storage` gives one.

    Attributes:
        url: of the folder, for people.
        filesystem: of pyarrow.
        path: of the folder on that file system.
        local: the folder, if this machine's own calls reach it.
    """

    def __init__(self, url: str, filesystem: FileSystem, path: str) -> None:
        self.url, self.filesystem, self.path = url, filesystem, path
        self.local = Path(path) if isinstance(filesystem, LocalFileSystem) else None

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None if there is none."""
        if self.filesystem.get_file_info(self._at(name)).type == FileType.NotFound:
            return None
        with self.filesystem.open_input_stream(self._at(name)) as file:
            return file.read()

    def write(self, name: str, content: bytes | str) -> None:
        """Write a file, text as UTF-8 and without secrets; `OSError` if that is impossible."""
        content = redact(content).encode() if isinstance(content, str) else content
        if self.local:
            write_whole(self.local / name, content)
            return
        self.filesystem.create_dir(self._at(name).rpartition("/")[0])
        with self.filesystem.open_output_stream(self._at(name)) as file:
            file.write(content)

    def list_files(self) -> set[str]:
        """Names of all files, as `epoch_0003/config.yaml`."""
        found = self.filesystem.get_file_info(FileSelector(self.path, recursive=True, allow_not_found=True))
        return {info.path[len(self.path) :].lstrip("/") for info in found if info.is_file}

    def delete(self) -> None:
        """Remove the whole folder; there may be none."""
        if self.filesystem.get_file_info(self.path).type == FileType.Directory:
            self.filesystem.delete_dir(self.path)

    def delete_folder(self, name: str) -> None:
        """Remove a folder with all that is in it; there may be none."""
        if self.filesystem.get_file_info(self._at(name)).type == FileType.Directory:
            self.filesystem.delete_dir(self._at(name))

    def upload_folder(self, source: Path, name: str, last: str | None = None) -> None:
        """Put a folder of this machine here.

        On disks it takes the name when all of it is there. Elsewhere its files replace those of the same names; where
        `last` names a file, the old ones go first and it comes last.

        Raises:
            OSError: there is no room or no way; nothing is left of it on disks.
        """
        if self.local:
            _move_whole(source, self.local / name)
            return
        if last is not None:
            self.delete_folder(name)
        names = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
        for file in sorted(names, key=lambda file: (file == last, file)):
            content = (source / file).open("rb")
            self.filesystem.create_dir(f"{self._at(name)}/{file}".rpartition("/")[0])
            with content, self.filesystem.open_output_stream(f"{self._at(name)}/{file}") as target:
                shutil.copyfileobj(content, target, COPIED_AT_ONCE)

    @contextmanager
    def scratch_folder(self, name: str) -> Iterator[Path]:
        """A new, empty folder on this machine in which `name` is made before `upload_folder` puts it in its place.

        It lies on the disk where it will stay, if that is a disk of this machine, and is gone when the context ends.
        What a writer that was killed left behind goes too: there is one writer at a time.
        """
        if self.local is None:
            with tempfile.TemporaryDirectory(prefix="mrqm-") as folder:
                yield Path(folder)
            return
        for left in self.local.glob(".*.part/"):
            shutil.rmtree(left, ignore_errors=True)
        part = part_of(self.local / name)
        part.mkdir(parents=True)
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)

    @contextmanager
    def folder_on_disk(self, name: str) -> Iterator[Path]:
        """A folder of the storage as one of this machine: itself, or a copy while the context is open."""
        if self.local:
            yield self.local / name
            return
        with tempfile.TemporaryDirectory(prefix="mrqm-") as folder:
            for file in sorted(self.list_files()):
                if file.startswith(f"{name}/"):
                    target = Path(folder) / file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with self.filesystem.open_input_stream(self._at(file)) as source, target.open("wb") as copy:
                        shutil.copyfileobj(source, copy, COPIED_AT_ONCE)
            yield Path(folder) / name

    def free_bytes(self) -> int | None:
        """Room that is left, where that can be known."""
        if self.local is None:
            return None
        return shutil.disk_usage(next(path for path in (self.local, *self.local.parents) if path.exists())).free

    def require_writable(self) -> None:
        """Write a file and remove it.

        Raises:
            StorageError: that is impossible.
        """
        probe = f".writable-{uuid.uuid4().hex}"  # others may try at the same time
        try:
            self.filesystem.create_dir(self.path)
            self.write(probe, b"1")
            self.filesystem.delete_file(self._at(probe))
        except OSError as error:
            raise StorageError(
                f"output_dir={self.url}: cannot be written: {error}; set another folder or URI, or grant the rights"
            ) from error

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}"


def is_uri(folder: str) -> bool:
    """Whether a folder is named by a URI and not by a path."""
    return "://" in folder


def open_storage(output: str, name: str) -> Storage:
    """The folder of a run.

    Args:
        output: a path, or a URI that pyarrow or fsspec knows.
        name: of the run.

    Raises:
        StorageError: nothing is known by this URI's scheme, or its store refuses.
    """
    if not is_uri(output):
        path = str(Path(output).absolute() / name)
        return Storage(path, LocalFileSystem(), path)
    url = f"{output.partition('?')[0].rstrip('/')}/{name}"
    try:
        filesystem, path = _resolve(output)
    except (ValueError, ImportError, OSError) as error:
        raise StorageError(f"output_dir={output}: cannot be used: {error}; give a folder or another URI") from error
    path = f"{path.rstrip('/')}/{name}"
    return Storage(path if isinstance(filesystem, LocalFileSystem) else url, filesystem, path)


def _resolve(uri: str) -> tuple[FileSystem, str]:
    try:
        return FileSystem.from_uri(uri)
    except pyarrow.ArrowInvalid:
        from fsspec.core import url_to_fs

        filesystem, path = url_to_fs(uri)
        return PyFileSystem(FSSpecHandler(filesystem)), path


def _move_whole(source: Path, target: Path) -> None:
    """Let a folder on the same disk take its name, after all of it has reached the disk."""
    for path in [*source.rglob("*"), source]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    shutil.rmtree(target, ignore_errors=True)
    source.rename(target)
