"""The sections of a space: objective, search, scheduler, budget, warm start and a paper's results."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mrqm.checkpoint.lookup import SCORE
from mrqm.config import RenamedFrom, Section
from mrqm.config.values import read_numbers

Count = Annotated[int, Field(ge=1)]


class Objective(Section):
    """A metric to optimise."""

    metric: str = SCORE
    """`coco/…` as validation reports it, `train/loss`, or `cost/gflops`, `cost/latency_ms`, `cost/parameters_m`."""
    mode: Literal["max", "min"] = "max"
    """`max` if higher values are better, `min` if lower ones are."""

    @property
    def sign(self) -> int:
        """Factor with which higher values are better: 1 or -1."""
        return 1 if self.mode == "max" else -1


class SearchSettings(Section):
    """The algorithm that suggests trials."""

    algorithm: Literal["tpe", "nsga2", "random", "grid"] = "tpe"
    """`tpe` and `nsga2` (two objectives) learn from earlier trials, by Optuna; `grid` tries every combination."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the search; the same seed and results give the same trials."""
    startup_trials: Count = 8
    """Number of random trials before `tpe` learns; also the population size of `nsga2`."""


class SchedulerSettings(Section):
    """The rule by which trials end early or are replaced."""

    algorithm: Literal["asha", "hyperband", "median", "pbt", "none"] = "asha"
    """`asha`, `hyperband` (ASHA in brackets) and `median` stop trials; `pbt` replaces the worst by the best."""
    grace_period: Annotated[Count, RenamedFrom("scheduler.grace_epochs")] = 1
    """Least epochs of a trial before `asha`, `hyperband` or `median` may stop it."""
    reduction_factor: Annotated[float, Field(gt=1), RenamedFrom("scheduler.reduction")] = 3.0
    """Reduction factor of `asha` and `hyperband`: one trial in this many continues at each rung."""
    brackets: Count = 3
    """Number of brackets of `hyperband`, each of which begins to stop trials one rung later."""
    perturbation_interval: Annotated[Count, RenamedFrom("scheduler.interval")] = 2
    """Epochs of a generation of `pbt`."""
    quantile_fraction: Annotated[float, Field(gt=0, le=0.5), RenamedFrom("scheduler.quantile")] = 0.25
    """Share of trials that `pbt` replaces by as many of the best after each generation."""


class Budget(Section):
    """The limits of a sweep."""

    trials: Count | None = None
    """Number of trials; a grid needs none."""
    hours: Annotated[float, Field(gt=0)] | None = None
    """Hours of wall-clock time, over all restarts."""
    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    """GPU hours of all trials together."""


class WarmStart(Section):
    """Earlier runs in MLflow that the search learns from before its first trial."""

    experiment: str | None = None
    """Experiment of the runs; `tracking.experiment` by default."""
    sweeps: tuple[str, ...] = ()
    """Names of sweeps whose trials to use; all finished runs of the experiment by default."""
    differ: tuple[str, ...] = ()
    """Keys that may have other values in earlier runs, such as `train.epochs`."""

    @field_validator("sweeps", "differ", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given


class PaperRow(Section):
    """One row of a paper's table."""

    at: dict[str, Any]
    """Parameters of the trial to compare with, by dotted key."""
    value: float
    """Value that the paper reports."""

    @field_validator("at", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, values: Any) -> Any:
        return read_numbers(values)


class Paper(Section):
    """A table of a paper, which is printed next to the sweep's results."""

    source: str
    """Paper and table."""
    column: str
    """Metric and data of the values."""
    rows: tuple[PaperRow, ...]
    """Rows in the paper's order."""
