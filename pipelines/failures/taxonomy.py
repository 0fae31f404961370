"""One taxonomy of failures for trainings and sweeps.

A passing failure (a full disk, a store that is away, a lost process, a reclaimed node, too little memory) is retried
from the last good checkpoint; a final one (configuration, data, code, a loss that diverges) would only come again.
`pipelines.failures.classification` says of what kind an error is, `pipelines.failures.policy` what follows.
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
    """A training that cannot go on, although its configuration seems usable."""


class FailureKind(StrEnum):
    """Kinds of failures; of several workers' failures the kind that comes first here explains the others."""

    PREEMPTED = "preempted"
    """The node was reclaimed, as announced."""
    INPUT = "input"
    """The configuration or the data are wrong: the user mends them."""
    DIVERGED = "diverged"
    """A loss or gradient was not finite, or a loss exploded, under this configuration."""
    PROGRAM = "program"
    """The code raised an error."""
    OUT_OF_MEMORY = "out_of_memory"
    """The process, its node or its GPU had too little memory."""
    STORAGE = "storage"
    """A disk is full or a store is away."""
    RUNTIME = "runtime"
    """A device or a library failed in a way that may be over when it is tried again."""
    PROCESS_LOST = "process_lost"
    """The process died, or its node with it."""
    PEER_LOST = "peer_lost"
    """The process only lost its connection to another one that failed."""


@dataclass(frozen=True)
class Failure:
    """One failure of a worker or of a trial.

    Attributes:
        kind: of the taxonomy.
        message: the sentence that matters.
        details: traceback, or report of the system; empty if there is none.
        step: optimizer steps taken until then, if known.
        final: true if trying again is of no use.
    """

    kind: FailureKind
    message: str
    details: str = ""
    step: int | None = None
    final: bool = False

    @property
    def signature(self) -> tuple[str, int | None] | None:
        """Equal for the same error at the same step, whatever addresses and sizes it names; None of what has no cause.

        That is a death, and memory that others may have taken.
        """
        of_its_own = self.kind is FailureKind.OUT_OF_MEMORY and self.step is not None
        if self.kind is FailureKind.RUNTIME or of_its_own:
            return re.sub(r"\d+", "0", self.message), self.step
        return None


def root_cause(failures: Mapping[_Rank, Failure]) -> tuple[_Rank, Failure]:
    """Of workers that failed together the one whose failure explains the others, with that failure."""
    kinds = list(FailureKind)
    return min(failures.items(), key=lambda item: kinds.index(item[1].kind))
