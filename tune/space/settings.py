"""The parts of a space: what is sought, how, with which knowledge, and how much it may cost."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mrqm.config import RenamedFrom, Section
from tune.space.values import read_numbers

Count = Annotated[int, Field(ge=1)]


class Objective(Section):
    """What is sought."""

    metric: str = "coco/AP"
    """`coco/…` as validation reports it, `train/loss`, or `cost/gflops`, `cost/latency_ms`, `cost/parameters_m`."""
    mode: Literal["max", "min"] = "max"
    """Whether more or less of it is better."""

    @property
    def sign(self) -> int:
        """Times this, more is better."""
        return 1 if self.mode == "max" else -1


class SearchSettings(Section):
    """Where the next trial looks."""

    algorithm: Literal["tpe", "nsga2", "random", "grid"] = "tpe"
    """`tpe` and `nsga2` (two objectives) learn from earlier trials, by Optuna; `grid` takes every combination."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The same seed and results give the same trials."""
    startup_trials: Count = 8
    """Random trials before `tpe` learns; also the population of `nsga2`."""


class SchedulerSettings(Section):
    """Which trials end early."""

    algorithm: Literal["asha", "hyperband", "median", "pbt", "none"] = "asha"
    """`asha`, `hyperband` (ASHA in brackets) and `median` stop trials; in `pbt` bad ones go on from good ones."""
    grace_period: Annotated[Count, RenamedFrom("scheduler.grace_epochs")] = 1
    """Epochs that every trial gets before `asha`, `hyperband` or `median` may stop it."""
    reduction_factor: Annotated[float, Field(gt=1), RenamedFrom("scheduler.reduction")] = 3.0
    """One in this many goes on at each rung of `asha` and `hyperband`."""
    brackets: Count = 3
    """Of `hyperband`: each begins to stop trials one rung later."""
    perturbation_interval: Annotated[Count, RenamedFrom("scheduler.interval")] = 2
    """Epochs of a generation of `pbt`."""
    quantile_fraction: Annotated[float, Field(gt=0, le=0.5), RenamedFrom("scheduler.quantile")] = 0.25
    """Share of trials that `pbt` replaces by as many of the best after each generation."""


class Budget(Section):
    """When a sweep ends."""

    trials: Count | None = None
    """Trials that are started; a grid needs no number."""
    hours: Annotated[float, Field(gt=0)] | None = None
    """Of wall clock, over all restarts."""
    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    """Of all trials' GPUs together."""


class WarmStart(Section):
    """Earlier runs in MLflow that the search learns from before its first trial."""

    experiment: str | None = None
    """Where they are; `tracking.experiment` by default."""
    sweeps: tuple[str, ...] = ()
    """Only trials of these sweeps, by name; none: all finished runs of the experiment."""
    differ: tuple[str, ...] = ()
    """Keys that may have had other values there, such as `train.epochs`."""

    @field_validator("sweeps", "differ", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given


class PaperRow(Section):
    """One line of a table of a paper."""

    at: dict[str, Any]
    """The trial it belongs to: values of searched keys."""
    value: float
    """What the paper reports."""

    @field_validator("at", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, values: Any) -> Any:
        return read_numbers(values)


class Paper(Section):
    """A table that is printed beside a sweep's own results."""

    source: str
    """Paper and table."""
    column: str
    """What the values are, and on which data."""
    rows: tuple[PaperRow, ...]
    """In the paper's order."""
