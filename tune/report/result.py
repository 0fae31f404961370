"""The result of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.registry.register import RegisteredModel
from tune.space.schema import Space
from tune.state.history import History, Trial


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        name: name of the sweep.
        space: space of the sweep.
        history: history of the sweep.
        best: best trial.
        checkpoint: folder of the best trial's best checkpoint.
        model: registered model of the best trial; None if MLflow did not accept it.
        report: path of the HTML report.
        tracking_uri: address of the MLflow store.
        run_id: id of the sweep's MLflow run.
        unsent: number of runs that are incomplete in MLflow; the same command sends the rest.
        reproduce: command that trains the best trial again; None if its parameters changed while it trained.
    """

    name: str
    space: Space
    history: History
    best: Trial
    checkpoint: Path
    model: RegisteredModel | None
    report: Path
    tracking_uri: str
    run_id: str
    reproduce: str | None
    unsent: int = 0
