"""How many trials run at once: as many as the cluster has room for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mrqm.config import ScalingConfig
from pipelines.compute.resources import room_on


def count_trials(nodes: Iterable[Mapping[str, float]], scaling: ScalingConfig) -> int:
    """How many trials fit on idle nodes; a trial's workers may be on several.

    Args:
        nodes: resources of each, by Ray's names.
        scaling: of a trial.
    """
    return room_on(nodes, scaling) // scaling.min_workers
