"""What came of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.registry.register import RegisteredModel
from tune.space.schema import Space
from tune.state.history import History, Trial


@dataclass(frozen=True)
class SweepResult:
    """What is known at the end of a sweep.

    Attributes:
        name: of the sweep.
        space, history: what was searched, and all that happened.
        best: the best trial.
        checkpoint: its folder.
        model: what was made of it; None if MLflow did not take it.
        report: the file.
        tracking_uri, run_id: of the sweep's MLflow run.
        unsent: runs of which MLflow has not everything; the same command sends the rest.
        reproduce: the command that trains the best trial again; None for one whose parameters changed on its way.
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
