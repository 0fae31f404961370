"""The MLflow run of a trial."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.tracking.tracker import Tracker
from tune.space.schema import Params
from tune.state.history import Trial


@dataclass
class TrialRun:
    """A trial's MLflow run, and the parts of the trial's history that this process has written to it."""

    tracker: Tracker
    results: int = 0
    exploits: int = 0

    def follow(self, trial: Trial) -> None:
        """Write the rest of the history; the tracker's event log leaves out what an earlier process wrote."""
        results, exploits = trial.results[self.results :], trial.exploits[self.exploits :]
        for result in results:
            self.tracker.log_metrics({"epoch": result.epoch, **result.metrics}, result.step)
        for epoch, exploit in exploits:
            self.tracker.tag(
                {"sweep.exploited": f"{exploit.source_trial} at epoch {epoch}"} | searched_tags(exploit.params)
            )
        self.results += len(results)
        self.exploits += len(exploits)


def searched_tags(params: Params) -> dict[str, str]:
    """Return the tags of a trial's run with its searched parameters."""
    return {f"sweep.{key}": str(value) for key, value in params.items()}
