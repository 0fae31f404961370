"""MLflow store, and the names of runs and models in it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from mrqm.config.sections.annotations import RenamedFrom
from mrqm.config.sections.section import Section


def _model_name(name: str) -> str:
    """Return the name if every MLflow store accepts it as a part of URIs and paths."""
    if not name.strip() or re.search(r"[/:]|^\.+$|^\.\.", name):
        example = re.sub(r"[/:\s]+|^\.+", "-", name).strip("-") or "mrqm"
        raise ValueError(f"{name!r}: MLflow takes no model of that name; leave out / and :, such as {example}")
    return name


ModelName = Annotated[str, Field(max_length=256), AfterValidator(_model_name)]


class TrackingConfig(Section):
    """MLflow store for runs, metrics, pictures and models."""

    place_of_secrets = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or the whole URI in MLFLOW_TRACKING_URI"

    uri: str = "sqlite:///mlflow.db"
    """MLflow tracking URI; the environment variable MLFLOW_TRACKING_URI replaces this default."""
    experiment: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """MLflow experiment; null takes that of the environment variable MLFLOW_EXPERIMENT_NAME or, without it, `mrqm`."""
    registered_model_name: Annotated[ModelName | None, RenamedFrom("tracking.register_as")] = "mrqm"
    """Name of the registered model; null registers none."""
