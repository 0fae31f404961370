"""The synchronisation of a trial's workers with its process: results of an epoch, and the decision to continue."""

from __future__ import annotations

import asyncio
from collections import defaultdict


class EpochBarrier:
    """A barrier at which workers report an epoch and wait for the decision to continue.

    Reports are pickled, so that the barrier's process need not import their classes.
    """

    def __init__(self) -> None:
        self._reports: asyncio.Queue[bytes] = asyncio.Queue()
        self._decided: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._last: float = float("inf")

    async def report(self, epoch: bytes) -> None:
        """Report a pickled epoch from the first worker, or the error of any of them."""
        await self._reports.put(epoch)

    async def next(self) -> bytes:
        """Return the next report."""
        return await self._reports.get()

    async def decide(self, epoch: int, *, proceed: bool) -> None:
        """Let all workers continue after an epoch, or end.

        Args:
            epoch: number of the epoch, from 1.
            proceed: True to train another epoch.
        """
        self._last = self._last if proceed else epoch
        self._decided[epoch].set()

    async def wait(self, epoch: int) -> bool:
        """Wait for the decision after an epoch; True if training continues."""
        await self._decided[epoch].wait()
        return epoch < self._last
