"""Wait for a disk that is full or a store that is away, within bounds, and say so: nothing already computed is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.failures.classification import is_storage_away
from pipelines.failures.policy import PATIENCE
from pipelines.storage.filesystem import StorageError

SECONDS_BETWEEN_TRIES = 2.0


def attempts(write: Callable[[], object], what: str, patience: float = PATIENCE) -> Iterator[str]:
    """Write something again and again until that succeeds; the iterator ends then.

    Args:
        write: writes all of it, or raises and leaves nothing.
        what: is written, for the user.
        patience: seconds to wait in all.

    Yields:
        Why it waits, before every further try.

    Raises:
        StorageError: the storage was away for longer.
    """
    began = time.monotonic()
    while True:
        try:
            write()
        except OSError as error:
            if not is_storage_away(error):
                raise
            if time.monotonic() - began >= patience:
                raise away(what, error, patience) from error
            yield f"waiting for storage, {patience / 60:.0f} minutes at most: {what} could not be written: {error}"
            time.sleep(SECONDS_BETWEEN_TRIES)
        else:
            return


def write_patiently(
    write: Callable[[], object], what: str, say: Callable[[str], None], patience: float = PATIENCE
) -> None:
    """Write something when the storage lets it; say once why it waits, and when that is over.

    Args:
        write: writes all of it, or raises and leaves nothing.
        what: is written, for the user.
        say: shows a line.
        patience: seconds to wait in all.

    Raises:
        StorageError: the storage was away for longer than anybody waits.
    """
    waited = False
    for reason in attempts(write, what, patience):
        if not waited:
            say(reason)
        waited = True
    if waited:
        say(f"{what} is written")


@contextmanager
def storage_faults_explained(place: str) -> Iterator[None]:
    """Let an error of the storage that nobody waits for end a command with a message and not with a traceback.

    Args:
        place: that the command writes to.

    Raises:
        StorageError: a disk is full or a store is away.
    """
    try:
        yield
    except OSError as error:
        if not is_storage_away(error):
            raise
        raise StorageError(f"{place}: {error}; make room or mend the place: the same command goes on") from error


def away(what: str, error: OSError, seconds: float) -> StorageError:
    """The error that ends a training or a sweep whose storage did not come back."""
    return StorageError(
        f"{what} could not be written for {seconds / 60:.0f} minutes: {error}\nmake room or mend the place: the same "
        "command goes on from the last good checkpoint"
    )
