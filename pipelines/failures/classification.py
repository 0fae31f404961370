"""Classification of errors, wrapped by Ray or not, and the sentence of each that tells the cause."""

from __future__ import annotations

import builtins
import errno
import re

import torch
import torch.distributed as dist
from ray.exceptions import OutOfDiskError, OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.train import ControllerError, WorkerGroupError

from mrqm.engine.progress import DivergenceError
from mrqm.errors import UserError
from pipelines.failures.taxonomy import Failure, FailureKind, root_cause
from pipelines.storage.filesystem import StorageError

LONGEST = 500
"""Maximum length of the sentence that describes an error, in characters."""
FINAL = (FailureKind.INPUT, FailureKind.DIVERGED, FailureKind.PROGRAM)

_NOT_STORAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ECHILD, errno.EAGAIN, errno.EINTR})
"""Errors of the operating system that do not concern a disk or a store."""
_NOT_THERE = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)
_MEMORY = re.compile(r"out of (shared )?memory|can't allocate memory|cannot allocate memory|bus error", re.IGNORECASE)
_TRACEBACK = "Traceback (most recent call last)"


class WorkerFailure(Exception):  # noqa: N818 - a carrier of an error, not an error of its own
    """An error that a Ray Train worker raised, with the step at which it did.

    Attributes:
        error: original error.
        step: optimizer steps taken until then; None if training had not begun.
        details: traceback.
    """

    def __init__(self, error: Exception, step: int | None, details: str) -> None:
        super().__init__(error, step, details)
        self.error, self.step, self.details = error, step, details


def classify(error: BaseException, step: int | None = None, details: str = "") -> Failure:
    """Classify an error.

    Args:
        error: original error, or Ray's wrapper around it.
        step: optimizer steps taken until then, if known.
        details: traceback, if known.

    Returns:
        Its kind and the sentence that tells the cause.
    """
    match error:
        case WorkerFailure():
            return classify(error.error, error.step, error.details)
        case WorkerGroupError():
            return root_cause({rank: classify(each) for rank, each in error.worker_failures.items()})[1]
        case ControllerError():
            return classify(error.controller_failure, step, details)
        case RayTaskError(cause=BaseException() as cause):
            return classify(cause, step, details or str(error))
    if (death := getattr(error, "health_check_failure", None)) is not None:  # Ray Train's wrapping of a dead worker
        return classify(death, step, details)
    kind = _kind_of(error)
    details = details or (str(error) if isinstance(error, RayError) else "")
    return Failure(kind, _sentence(error, kind, details), details, step, is_final(error))


def classify_text(text: str) -> Failure:
    """Classify an error of which only the text is known.

    Args:
        text: message of the error, a traceback that ends with it, or Ray's report of a process that it killed.
    """
    if "running low on memory" in text:
        return Failure(FailureKind.OUT_OF_MEMORY, _killed_for_memory(text), text)
    lines = text.strip().splitlines() or ["an error without a message"]
    if not text.startswith("  File ") and not lines[0].startswith("Traceback"):
        return Failure(FailureKind.RUNTIME, _shorten(lines[0]), text)
    name = lines[-1].partition(":")[0].rpartition(".")[2]
    named = getattr(builtins, name, None)
    is_storage = isinstance(named, type) and issubclass(named, OSError) and not issubclass(named, _NOT_THERE)
    kind = FailureKind.STORAGE if is_storage else FailureKind.PROGRAM
    return Failure(kind, _shorten(lines[-1]), text, final=not is_storage)


def is_storage_away(error: BaseException) -> bool:
    """Return true for an error of a full disk or unreachable store, after which a retry makes sense."""
    return _kind_of(error) is FailureKind.STORAGE and not is_final(error)


def is_final(error: BaseException) -> bool:
    """Return true for an error after which a retry is useless; a `StorageError` already ends a wait."""
    return _kind_of(error) in FINAL or isinstance(error, StorageError)


def _kind_of(error: BaseException) -> FailureKind:
    match error:
        case StorageError() | OutOfDiskError():
            return FailureKind.STORAGE
        case DivergenceError():
            return FailureKind.DIVERGED
        case UserError():
            return FailureKind.INPUT
        case RayActorError(actor_init_failed=True):
            return FailureKind.PROGRAM
        case RayActorError():
            return FailureKind.PREEMPTED if error.preempted else FailureKind.PROCESS_LOST
        case OutOfMemoryError() | torch.OutOfMemoryError() | MemoryError() | OSError(errno=errno.ENOMEM):
            return FailureKind.OUT_OF_MEMORY
        case dist.DistError() | RayError():
            return FailureKind.PEER_LOST
        case OSError():
            is_storage = not isinstance(error, _NOT_THERE) and error.errno not in _NOT_STORAGE
            return FailureKind.STORAGE if is_storage else FailureKind.RUNTIME
        case RuntimeError() if "gloo/" in str(error):
            return FailureKind.PEER_LOST
        case RuntimeError():
            return FailureKind.OUT_OF_MEMORY if _MEMORY.search(str(error)) else FailureKind.RUNTIME
    return FailureKind.PROGRAM


def _sentence(error: BaseException, kind: FailureKind, details: str) -> str:
    """Extract the part of an error's message that tells the cause."""
    text = str(error).strip()
    if isinstance(error, UserError):
        return f"{type(error).__name__}: {text}"
    if isinstance(error, OutOfMemoryError):
        return _killed_for_memory(text)
    if isinstance(error, RayActorError):
        return _shorten(text.splitlines()[-1] if error.actor_init_failed else _death(text))
    lines = text.splitlines() or [""]
    wrapped = _TRACEBACK in text  # by a process that loads data
    line = lines[-1].partition(": ")[2] if wrapped else lines[0]
    place = _place(text if wrapped else details) if kind is FailureKind.PROGRAM else ""
    return _shorten(f"{type(error).__name__}: {line}".removesuffix(": ") + place)


def _killed_for_memory(text: str) -> str:
    """Summarise Ray's report of a process that it killed because its node ran out of memory."""
    node = re.search(r"was ([\d.]+ ?[KMG]?B) used / ([\d.]+ ?[KMG]?B)", text)
    limit = re.search(r"exceeded threshold of \S+ \(([\d.]+%)", text)
    own = re.search(r"actual memory used=([\d.]+ ?[KMG]?B)", text)
    words = f": {node[1]} of the node's {node[2]} were in use" if node else ": the node's memory was nearly used up"
    words += f", over Ray's limit of {limit[1]}" if limit else ""
    words += f", {own[1]} by the process that Ray killed" if own else ""
    return f"out of memory{words}"


def _death(text: str) -> str:
    """Summarise Ray's report of a process that died."""
    first = (text.splitlines() or ["the process died"])[0]
    detail = re.search(r"Worker exit detail: (.*?\.)(?: |$)", text, re.DOTALL)
    return f"{first} {detail[1]}" if detail else first


def _place(details: str) -> str:
    """Name the line of code where a traceback ends."""
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', details)
    if not frames:
        return ""
    path, line, function = frames[-1]
    return f" ({'/'.join(path.split('/')[-2:])}, line {line}, in {function})"


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
