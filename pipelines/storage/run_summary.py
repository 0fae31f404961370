"""The summary of a training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """The outcome of a run.

    Attributes:
        name: of the run.
        folder: of the run.
        checkpoint: the best checkpoint's folder.
        epoch: of the best checkpoint.
        metrics: of the best checkpoint, named as by `CocoProtocol`.
        picture: PNG of detections beside ground truth at that epoch, if there is one.
        tracking_uri: of the MLflow store.
        run_id: of the MLflow run.
        model_uri: what `mlflow.pyfunc.load_model` takes; None if MLflow did not take the model.
        registered_as: "name version N", if it was registered.
        pending: reports that MLflow did not take; they are kept, and the same command sends them.
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
        """Tell whether MLflow has all of the run."""
        return self.model_uri is not None and not self.pending
