"""What a training takes of a cluster."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from mrqm.config.sections.section import Count, Section


class ScalingConfig(Section):
    """What the cluster gives; mirrors ray.train.ScalingConfig."""

    num_workers: Count | tuple[Count, Count] = 1
    """Training processes; [least, most] takes as many as the cluster has room for, and follows when that changes."""
    use_gpu: bool = False
    """One GPU for each worker."""
    cpus_per_worker: Count = 1
    """CPU cores reserved for each worker; also its number of threads."""

    @model_validator(mode="after")
    def _least_is_not_above_most(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError(f"num_workers={[self.min_workers, self.max_workers]} must be [least, most]")
        return self

    @property
    def min_workers(self) -> int:
        """Fewest workers that train."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def max_workers(self) -> int:
        """Most workers that train."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]
