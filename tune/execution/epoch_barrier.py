"""Between the workers of a trial and the process that has it: what came of an epoch, and whether there is another."""

from __future__ import annotations

import asyncio
from collections import defaultdict


class EpochBarrier:
    """Where workers hand in an epoch, and wait for what is decided.

    What they hand in is pickled: the gate's process need not import what it is made of.
    """

    def __init__(self) -> None:
        self._handed_in: asyncio.Queue[bytes] = asyncio.Queue()
        self._decided: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._last: float = float("inf")

    async def hand_in(self, epoch: bytes) -> None:
        """An epoch from the first worker, or what makes any of them give up."""
        await self._handed_in.put(epoch)

    async def next(self) -> bytes:
        """What is handed in next."""
        return await self._handed_in.get()

    async def decide(self, epoch: int, *, goes_on: bool) -> None:
        """Let all workers go on after an epoch, or end there."""
        self._last = self._last if goes_on else epoch
        self._decided[epoch].set()

    async def passes(self, epoch: int) -> bool:
        """Whether a worker goes on after an epoch, as soon as that is decided."""
        await self._decided[epoch].wait()
        return epoch < self._last
