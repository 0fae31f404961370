"""Where MLflow is."""

from __future__ import annotations

from mrqm.config.section import Section


class TrackingConfig(Section):
    """Where runs, metrics, pictures and models go."""

    uri: str = "sqlite:///mlflow.db"
    """MLflow tracking URI; the environment's MLFLOW_TRACKING_URI wins over this default."""
    experiment: str = "mrqm"
    """MLflow experiment."""
    register_as: str | None = "mrqm"
    """Name of the registered model; null registers none."""
