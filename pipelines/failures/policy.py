"""The failure policy: RETRY from the last good checkpoint, or RAISE.

Retries are bounded by their number since the last progress; those of storage by the time spent waiting for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from pipelines.failures.taxonomy import Failure, FailureKind

FIRST_DELAY, LONGEST_DELAY = 5.0, 60.0
"""Seconds before the first retry after a storage failure, and the upper bound of this doubling delay."""
PATIENCE = 600.0
"""Seconds that a disk may be full, or a store unreachable, before a training or sweep stops."""


class Decision(Enum):
    """Decision after a failure, named as in Ray Train's failure policy."""

    RETRY = auto()
    RAISE = auto()


class Verdict(NamedTuple):
    """A decision.

    Attributes:
        decision: RETRY or RAISE.
        delay: seconds before the retry.
        reason: reason of RAISE, to follow "worker 1" or "trial 1"; empty where the failure's message is enough.
    """

    decision: Decision
    delay: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class FailurePolicy:
    """Stateless policy that decides by a failure and the earlier ones since the last progress.

    Attributes:
        max_failures: retries without progress; those after reclaimed nodes and storage failures are not counted.
        patience: seconds to wait for storage.
    """

    max_failures: int = 3
    patience: float = PATIENCE

    def decide(self, failure: Failure, earlier: Sequence[Failure]) -> Verdict:
        """Decide between a retry and the end of the training or trial.

        Args:
            failure: newest failure.
            earlier: failures since the last progress, that is since the last good checkpoint.

        Returns:
            The decision, with a delay or a reason.
        """
        if failure.final:
            return Verdict(Decision.RAISE)
        if failure.kind is FailureKind.PREEMPTED:
            return Verdict(Decision.RETRY)
        if failure.kind is FailureKind.STORAGE:
            return self._wait_for_storage(sum(before.kind is FailureKind.STORAGE for before in earlier))
        if failure.signature is not None and failure.signature in {before.signature for before in earlier}:
            return Verdict(Decision.RAISE, reason="failed twice in the same way")
        counted = [each for each in earlier if each.kind not in (FailureKind.PREEMPTED, FailureKind.STORAGE)]
        if len(counted) >= self.max_failures:
            return Verdict(Decision.RAISE, reason=f"failed {len(counted) + 1} times without progress")
        return Verdict(Decision.RETRY)

    def _wait_for_storage(self, retries: int) -> Verdict:
        waited = sum(_delay(number) for number in range(retries))
        if waited >= self.patience:
            return Verdict(Decision.RAISE, reason=f"waited {waited / 60:.0f} minutes for storage")
        return Verdict(Decision.RETRY, _delay(retries))


def _delay(retries: int) -> float:
    return min(FIRST_DELAY * 2**retries, LONGEST_DELAY)
