"""The number of concurrent trials: as many as the cluster has room for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mrqm.config import ScalingConfig
from pipelines.compute.resources import room_on


def count_trials(nodes: Iterable[Mapping[str, float]], scaling: ScalingConfig) -> int:
    """Count the trials that fit on idle nodes; a trial's workers may be on several.

    Args:
        nodes: resources of each node, by Ray's names.
        scaling: number and resources of a trial's workers.

    Returns:
        The number of trials that can run at the same time.
    """
    return room_on(nodes, scaling) // scaling.min_workers
