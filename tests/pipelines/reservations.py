"""Reservations on the cluster that this process has joined."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.util import placement_group_table


def reservation_states() -> set[str]:
    """List the states of all placement groups so far; released ones are REMOVED."""
    return {str(group["state"]) for group in placement_group_table().values()}


@contextmanager
def occupied(cpus: int) -> Iterator[None]:
    """Occupy a number of CPUs by other actors while the context is open."""
    others = [Other.remote() for _ in range(cpus)]
    try:
        ray.get([other.is_there.remote() for other in others])
        yield
    finally:
        for other in others:
            ray.kill(other)


@ray.remote(num_cpus=1)
class Other:
    def is_there(self) -> bool:
        return True
