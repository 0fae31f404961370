"""Bounded waiting for a full disk or an unreachable store, so that no computed result is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.failures.classification import is_storage_away
from pipelines.failures.policy import PATIENCE
from pipelines.storage.filesystem import StorageError

SECONDS_BETWEEN_TRIES = 2.0


def attempts(write: Callable[[], object], what: str, patience: float = PATIENCE) -> Iterator[str]:
    """Retry a write until it succeeds.

    Args:
        write: function that writes completely, or raises and leaves nothing.
        what: name of the written object, for messages.
        patience: seconds to wait in all.

    Yields:
        The reason of the wait, before every retry.

    Raises:
        StorageError: the storage was unavailable for longer than `patience`.
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
    """Retry a write until it succeeds; report the beginning and the end of a wait, once each.

    Args:
        write: function that writes completely, or raises and leaves nothing.
        what: name of the written object, for messages.
        say: callback for messages.
        patience: seconds to wait in all.

    Raises:
        StorageError: the storage was unavailable for longer than `patience`.
    """
    waited = False
    for reason in attempts(write, what, patience):
        if not waited:
            say(reason)
        waited = True
    if waited:
        say(f"{what} was written")


@contextmanager
def storage_faults_explained(place: str) -> Iterator[None]:
    """Turn storage errors, for which no wait is made, into a message for the user.

    Args:
        place: folder or URI that the command writes to.

    Raises:
        StorageError: a disk is full or a store is unreachable.
    """
    try:
        yield
    except OSError as error:
        if not is_storage_away(error):
            raise
        raise StorageError(f"{place}: {error}; free space or repair the storage, then repeat the command") from error


def away(what: str, error: OSError, seconds: float) -> StorageError:
    """Make the error that ends a training or sweep whose storage stayed unavailable.

    Args:
        what: name of the object that could not be written.
        error: last error of the storage.
        seconds: time waited.

    Returns:
        The error to raise.
    """
    return StorageError(
        f"{what} could not be written for {seconds / 60:.0f} minutes: {error}\nfree space or repair the storage, then "
        "repeat the command: it resumes from the last good checkpoint"
    )
