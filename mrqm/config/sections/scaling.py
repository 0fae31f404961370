"""Resources of a training on a cluster."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from mrqm.config.sections.section import Count, Section


class ScalingConfig(Section):
    """Resources of a training on a cluster, as in ray.train.ScalingConfig."""

    num_workers: Count | tuple[Count, Count] = 1
    """Number of training processes; [least, most] adapts the number to the free resources of the cluster."""
    use_gpu: bool = False
    """Reserve one GPU for each worker."""
    cpus_per_worker: Count = 1
    """Number of CPU cores reserved for each worker, and of its threads."""

    @model_validator(mode="after")
    def _least_is_not_above_most(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError(f"num_workers={[self.min_workers, self.max_workers]} must be [least, most]")
        return self

    @property
    def min_workers(self) -> int:
        """Least number of workers that train."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def max_workers(self) -> int:
        """Greatest number of workers that train."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]
