"""A node's local copy of a data set at a URI (S3, Google Cloud Storage, any store that pyarrow reads).

The copy is at `data.folder`, from which all other modules read. The processes of a node share it: one downloads the
files that are missing or changed (by size and time, as rsync does), the others wait. Unused copies are removed when a
new one needs the space.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from humanize import naturalsize
from pyarrow import ArrowInvalid, ArrowNotImplementedError
from pyarrow.fs import FileSystem

from mrqm.config import DataConfig, make_config
from mrqm.structures.annotations import DataError
from pipelines.storage.downloads import download, list_folder, list_store, total_size
from pipelines.storage.filesystem import is_uri


@contextmanager
def data_cache(data: DataConfig, say: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Keep a copy of the data at `data.folder` while the context is open; do nothing where `data.root` is a folder.

    Args:
        data: `data` section of a configuration.
        say: callback for progress messages.

    Yields:
        None, once the copy is complete.

    Raises:
        DataError: the URI cannot be read or is empty, the copy has no room, or the data changed while others read it.
    """
    if isinstance(data.root, Path):
        yield
        return
    copies = data.cache_dir.expanduser()
    try:
        copies.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DataError(
            f"data.cache_dir={data.cache_dir}: the folder for copies of data cannot be created: {error}"
        ) from error
    with _lock_of(data.folder).open("a") as reading:
        with (copies / ".fetching").open("a") as fetching:
            fcntl.flock(fetching, fcntl.LOCK_EX)
            with _reachable(data):
                _fetch(data, reading.fileno(), say)
            fcntl.flock(reading, fcntl.LOCK_SH)
        os.utime(reading.fileno())
        yield


@contextmanager
def local_folders(words: Iterable[str], say: Callable[[str], None] = lambda text: None) -> Iterator[list[str]]:
    """Replace URIs by the folders of this node's copies, which are kept while the context is open.

    Args:
        words: paths, patterns and URIs.
        say: callback for progress messages.

    Yields:
        The paths and patterns as they were, and a folder for each URI.

    Raises:
        ConfigError: a URI holds credentials.
        DataError: see `data_cache`.
    """
    with ExitStack() as copies:
        folders = []
        for word in words:
            if is_uri(word):
                data = make_config({"data": {"root": word}}, source=word).data
                copies.enter_context(data_cache(data, say))
                folders.append(str(data.folder))
            else:
                folders.append(word)
        yield folders


@cache
def keep_copies(uris: tuple[str, ...]) -> ExitStack:
    """Keep this node's copies until this process ends; further calls do nothing. See `data_cache`."""
    copies = ExitStack()
    copies.enter_context(local_folders(uris))
    return copies


def measure_data(data: DataConfig) -> tuple[int, int]:
    """Count files and bytes of the training and validation data as this node sees them; all files of a URI.

    Raises:
        DataError: there are no files, or this node's copy would have no room.
    """
    if isinstance(data.root, Path):
        files = [file for split in {data.train, data.val} for file in (data.root / split).rglob("*") if file.is_file()]
        if not files:
            raise DataError(f"{data.root}: no files in {data.train} and {data.val}; mount the data on all nodes")
        return len(files), sum(file.stat().st_size for file in files)
    with _reachable(data):
        filesystem, source = FileSystem.from_uri(data.root)
        there, here = list_store(filesystem, source), list_folder(data.folder)
    whole = total_size(there)
    _require_bound(data, whole, 0)
    _require_disk(data, total_size({name: version for name, version in there.items() if here.get(name) != version}))
    return len(there), whole


@contextmanager
def _reachable(data: DataConfig) -> Iterator[None]:
    """Turn a store's errors into messages for the user."""
    try:
        yield
    except (OSError, ArrowInvalid, ArrowNotImplementedError) as error:  # pyarrow's, for URIs it cannot interpret
        raise DataError(
            f"data.root={data.root}: cannot be copied to {data.folder}: {str(error).splitlines()[0]}; every node "
            "needs credentials (AWS_ACCESS_KEY_ID, a profile or a role) and, for S3 servers other than "
            "Amazon's, AWS_ENDPOINT_URL"
        ) from error


def _fetch(data: DataConfig, reading: int, say: Callable[[str], None]) -> None:
    """Synchronise the copy with the URI."""
    filesystem, source = FileSystem.from_uri(data.root)
    there, here = list_store(filesystem, source), list_folder(data.folder)
    if not there:
        raise DataError(f"data.root={data.root}: no files there")
    wanted = [name for name, version in there.items() if here.get(name) != version]
    obsolete = here.keys() - there.keys()
    if not wanted and not obsolete:
        return
    if not _take(reading):
        raise DataError(f"data.root={data.root} has changed while another training on this node reads {data.folder}")
    for name in obsolete:
        (data.folder / name).unlink()
    missing = total_size({name: there[name] for name in wanted})
    _make_room(data, total_size(there), missing)
    say(f"copying {naturalsize(missing)} of {data.root} to this node")
    download(filesystem, source, data.folder, {name: there[name] for name in wanted})


def _make_room(data: DataConfig, whole: int, missing: int) -> None:
    """Remove unused copies, the least recently used first, until the new one fits into `data.cache_max_gb`."""
    copies, most = data.cache_dir.expanduser(), data.cache_max_gb * 1e9
    locks = sorted(copies.glob("*.lock"), key=lambda lock: lock.stat().st_mtime)
    sizes = {lock: total_size(list_folder(lock.with_suffix(""))) for lock in locks if lock != _lock_of(data.folder)}
    for lock, size in list(sizes.items()):
        if whole + sum(sizes.values()) > most and size and _remove(lock.with_suffix(""), lock):
            del sizes[lock]
    _require_bound(data, whole, sum(sizes.values()))
    _require_disk(data, missing)


def _require_bound(data: DataConfig, whole: int, used: int) -> None:
    if whole + used > data.cache_max_gb * 1e9:
        raise DataError(
            f"data.root={data.root} has {naturalsize(whole)}, but of data.cache_max_gb={data.cache_max_gb:g} other "
            f"copies in use on this node take {naturalsize(used)}; raise data.cache_max_gb, or mount the data on all "
            "nodes and set data.root to the folder"
        )


def _require_disk(data: DataConfig, missing: int) -> None:
    copies = data.cache_dir.expanduser()
    free = shutil.disk_usage(next(path for path in (copies, *copies.parents) if path.exists())).free
    if missing > free:
        raise DataError(
            f"data.root={data.root}: {naturalsize(missing)} do not fit into the {naturalsize(free)} that are free at "
            f"data.cache_dir={data.cache_dir}; set data.cache_dir to a folder on a larger disk"
        )


def _remove(copy: Path, lock: Path) -> bool:
    """Remove a copy unless a process reads it; its lock file stays, since a process may be about to open it."""
    with lock.open("a") as reading:
        if not _take(reading.fileno()):
            return False
        shutil.rmtree(copy)
    return True


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_of(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.lock")
