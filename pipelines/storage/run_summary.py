"""The summary of a training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """The outcome of a run.

    Attributes:
        name: name of the run.
        folder: folder or URI of the run.
        checkpoint: folder of the best checkpoint.
        epoch: epoch of the best checkpoint.
        metrics: metrics of the best checkpoint, named as by `CocoProtocol`.
        picture: PNG of detections beside ground truth at that epoch, if there is one.
        tracking_uri: URI of the MLflow store.
        run_id: id of the MLflow run.
        model_uri: URI for `mlflow.pyfunc.load_model`; None if the model could not be logged.
        registered_as: "name version N", if it was registered.
        pending: number of reports not yet sent to MLflow; they are stored, and the same command sends them.
    """

    name: str
    folder: str
    checkpoint: str
    epoch: int
    metrics: dict[str, float]
    picture: str | None
    tracking_uri: str
    run_id: str
    model_uri: str | None
    registered_as: str | None
    pending: int = 0

    @property
    def complete(self) -> bool:
        """True if MLflow has the whole run."""
        return self.model_uri is not None and not self.pending
