"""The storage of a run: a folder on a disk, on NFS or in any store that pyarrow or fsspec supports.

Examples are `runs/demo` and `s3://bucket/demo`. Files are written atomically: on disks they are renamed into place, and
object stores show an object only when it is complete.
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
MLFLOW_SCHEMES = ("models:/", "runs:/")
"""Beginnings of URIs that MLflow resolves, not a file system."""


class StorageError(UserError):
    """A storage for runs that cannot be written or is full."""


class Storage:
    """Folder on any file system; made by `open_storage`.

    Attributes:
        url: location of the folder, for display.
        filesystem: pyarrow file system.
        path: path of the folder on that file system.
        local: path of the folder on a local or mounted file system; None for object stores.
    """

    def __init__(self, url: str, filesystem: FileSystem, path: str) -> None:
        self.url, self.filesystem, self.path = url, filesystem, path
        self.local = Path(path) if isinstance(filesystem, LocalFileSystem) else None

    def read(self, name: str) -> bytes | None:
        """Read a file; None if it does not exist."""
        if self.filesystem.get_file_info(self._at(name)).type == FileType.NotFound:
            return None
        with self.filesystem.open_input_stream(self._at(name)) as file:
            return file.read()

    def write(self, name: str, content: bytes | str) -> None:
        """Write a file; text is encoded as UTF-8, and secrets in it are redacted.

        Args:
            name: path of the file within the folder.
            content: bytes or text.

        Raises:
            OSError: the file cannot be written.
        """
        content = redact(content).encode() if isinstance(content, str) else content
        if self.local:
            write_whole(self.local / name, content)
            return
        self.filesystem.create_dir(self._at(name).rpartition("/")[0])
        with self.filesystem.open_output_stream(self._at(name)) as file:
            file.write(content)

    def list_files(self) -> set[str]:
        """List all files by their path within the folder, such as `epoch_0003/config.yaml`."""
        found = self.filesystem.get_file_info(FileSelector(self.path, recursive=True, allow_not_found=True))
        return {info.path[len(self.path) :].lstrip("/") for info in found if info.is_file}

    def delete(self) -> None:
        """Remove the folder if it exists."""
        if self.filesystem.get_file_info(self.path).type == FileType.Directory:
            self.filesystem.delete_dir(self.path)

    def delete_folder(self, name: str) -> None:
        """Remove a subfolder and its content if it exists."""
        if self.filesystem.get_file_info(self._at(name)).type == FileType.Directory:
            self.filesystem.delete_dir(self._at(name))

    def upload_folder(self, source: Path, name: str, last: str | None = None) -> None:
        """Copy a folder of this machine into the storage.

        On disks the complete folder is renamed into place. In object stores its files replace those of the same names.

        Args:
            source: folder to copy.
            name: name of the folder within the storage.
            last: name of the file to write last, which marks the folder as complete; in object stores the existing
                folder is removed first. None merges the files.

        Raises:
            OSError: the storage is full or unreachable; on disks no incomplete folder remains.
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
        """Provide an empty local folder in which to prepare `name` for `upload_folder`.

        It is on the same disk as the storage if that is local, and is removed when the context ends. Scratch folders
        left by killed writers are removed too, since there is one writer at a time.
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
        """Provide a subfolder on this machine: itself, or a temporary copy while the context is open."""
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
        """Return the free space in bytes; None for object stores."""
        if self.local is None:
            return None
        return shutil.disk_usage(next(path for path in (self.local, *self.local.parents) if path.exists())).free

    def require_writable(self) -> None:
        """Check that the folder can be written, by writing a file and removing it.

        Raises:
            StorageError: the folder cannot be written.
        """
        probe = f".writable-{uuid.uuid4().hex}"  # unique, since other processes may check at the same time
        try:
            self.filesystem.create_dir(self.path)
            self.write(probe, b"1")
            self.filesystem.delete_file(self._at(probe))
        except OSError as error:
            raise StorageError(
                f"output_dir={self.url}: cannot be written: {error}; set another folder or URI, or grant write access"
            ) from error

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}"


def is_uri(folder: str) -> bool:
    """Return true for a URI, false for a path."""
    return "://" in folder


def download_file(uri: str, target: Path) -> None:
    """Copy a file from a URI.

    Args:
        uri: URI that pyarrow or fsspec supports.
        target: file to write.

    Raises:
        OSError, ValueError, ImportError: the file cannot be read, or the URI's scheme is unknown.
    """
    filesystem, path = _resolve(uri)
    with filesystem.open_input_stream(path) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, COPIED_AT_ONCE)


def open_storage(output: str, name: str) -> Storage:
    """Open the storage of a run.

    Args:
        output: folder of all runs: a path, or a URI that pyarrow or fsspec supports.
        name: name of the run.

    Returns:
        The storage of `output`/`name`, which need not exist.

    Raises:
        StorageError: the URI's scheme is unknown, or its store refuses access.
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
    """Flush a folder to the disk and rename it into place on the same disk."""
    for path in [*source.rglob("*"), source]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    shutil.rmtree(target, ignore_errors=True)
    source.rename(target)
