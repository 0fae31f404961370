"""One taxonomy of failures for trainings and sweeps.

A transient failure (a full disk, an unreachable store, a lost process, a reclaimed node, too little memory) is retried
from the last good checkpoint; a final one (configuration, data, code, a loss that diverges) would only recur.
`pipelines.failures.classification` determines the kind of an error, `pipelines.failures.policy` the reaction to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from mrqm.errors import UserError

OUT_OF_MEMORY_REMEDY = (
    "lower train.batch_size or data.loader_workers, or let fewer share a node: scaling.cpus_per_worker"
)
_Rank = TypeVar("_Rank")


class TrainingError(UserError):
    """A training that cannot continue, although its configuration is valid."""


class FailureKind(StrEnum):
    """Kinds of failures, in order of precedence: of several workers' failures, the first kind is the root cause."""

    PREEMPTED = "preempted"
    """The node was reclaimed after an announcement."""
    INPUT = "input"
    """The configuration or the data are wrong, and the user has to correct them."""
    DIVERGED = "diverged"
    """A loss or gradient was not finite, or a loss exploded, under this configuration."""
    PROGRAM = "program"
    """The code raised an error."""
    OUT_OF_MEMORY = "out_of_memory"
    """The process, its node or its GPU had too little memory."""
    STORAGE = "storage"
    """A disk is full or a store is unreachable."""
    RUNTIME = "runtime"
    """A device or a library failed in a way that a retry may overcome."""
    PROCESS_LOST = "process_lost"
    """The process died, or its node with it."""
    PEER_LOST = "peer_lost"
    """The process only lost its connection to another one that failed."""


@dataclass(frozen=True)
class Failure:
    """One failure of a worker or of a trial.

    Attributes:
        kind: kind of the failure.
        message: sentence that tells the cause.
        details: traceback, or report of the system; empty if there is none.
        step: optimizer steps taken until then, if known.
        final: true if a retry is useless.
    """

    kind: FailureKind
    message: str
    details: str = ""
    step: int | None = None
    final: bool = False

    @property
    def signature(self) -> tuple[str, int | None] | None:
        """Signature of a reproducible error: its message without numbers, and its step; None for other failures.

        The death of a process, or memory that other processes may have used, has no signature.
        """
        of_its_own = self.kind is FailureKind.OUT_OF_MEMORY and self.step is not None
        if self.kind is FailureKind.RUNTIME or of_its_own:
            return re.sub(r"\d+", "0", self.message), self.step
        return None


def root_cause(failures: Mapping[_Rank, Failure]) -> tuple[_Rank, Failure]:
    """Find the worker whose failure caused those of the others, and return it with that failure."""
    kinds = list(FailureKind)
    return min(failures.items(), key=lambda item: kinds.index(item[1].kind))
