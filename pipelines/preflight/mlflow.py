"""Checks of MLflow and the permissions that a training needs: rows of `mrqm plan`.

A deleted run stays in MLflow's trash, and the name of a deleted experiment cannot be used again, so neither is created.
The permission to create runs, that to edit the experiment, is tested by setting and deleting a tag; the permission to
register by a tag of the model, or by creating and deleting a model.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from uuid import uuid4

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from sqlalchemy.exc import SQLAlchemyError

from mrqm.check import Check
from mrqm.config import Config, TrackingConfig
from mrqm.redaction import redact
from pipelines.tracking.client import Client
from pipelines.tracking.errors import TrackingError, explain
from pipelines.tracking.store import first_contact, require_active, resolve_experiment, resolve_uri, sqlite_path

PROBE = "mrqm.plan"


def check_mlflow(config: Config) -> list[Check]:
    """Check that the store answers, and that runs, artifacts and models can be written."""
    settings, name = config.tracking, resolve_experiment(config.tracking)
    try:
        uri = resolve_uri(settings)
        database = sqlite_path(uri)
        if database is not None and not database.exists():
            return [_new_database(database)]
        with first_contact(uri):
            client = Client(uri)
            experiment = client.get_experiment_by_name(name)
            if experiment is not None:
                require_active(experiment, uri)
    except TrackingError as error:
        return [Check.refused("mlflow", error)]
    what = f"experiment {name}"
    checks = [Check("mlflow", "ok", f"{redact(uri)} answers; {what} {'exists' if experiment else 'will be created'}")]
    with first_contact(uri):
        checks += _check_experiment(client, experiment, uri) if experiment else []
        return [*checks, *_check_registry(client, settings, uri)]


def _new_database(database: Path) -> Check:
    folder = next(path for path in database.parents if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check("mlflow", "error", f"{database} cannot be created: {error}", "set tracking.uri to another store")
    return Check("mlflow", "ok", f"{database} will be created")


def _check_experiment(client: Client, experiment: Experiment, uri: str) -> list[Check]:
    try:
        client.set_experiment_tag(experiment.experiment_id, PROBE, "1")
        client.delete_experiment_tag(experiment.experiment_id, PROBE)
    except (MlflowException, SQLAlchemyError) as error:
        return [_forbidden("mlflow runs", f"no run can be created in experiment {experiment.name}", error)]
    return [
        Check("mlflow runs", "ok", f"can be created in experiment {experiment.name}"),
        _check_artifacts(experiment.artifact_location, uri),
    ]


def _check_artifacts(location: str, uri: str) -> Check:
    """Write a file to the artifact location of the experiment, and remove it."""
    name = "mlflow artifacts"
    folder = f"{PROBE}-{uuid4().hex[:12]}"
    repository = get_artifact_repository(location, tracking_uri=uri)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "probe.txt"
        file.write_text("written by `mrqm plan`\n")
        try:
            repository.log_artifact(str(file), folder)
        except (MlflowException, OSError) as error:
            return _forbidden(name, f"none can be written to {location}", error)
    try:
        repository.delete_artifacts(folder)
    except (MlflowException, OSError) as error:  # a server allows this only to managers of the experiment
        left = f"{folder} stays there: this account has no permission to delete it ({explain(error)[0]})"
        return Check(name, "ok", f"written to {location}; {left}")
    return Check(name, "ok", f"written to {location}")


def _check_registry(client: Client, settings: TrackingConfig, uri: str) -> list[Check]:
    model = settings.registered_model_name
    if model is None:
        return []
    try:
        if client.model(model):
            client.set_registered_model_tag(model, PROBE, "1")
            client.delete_registered_model_tag(model, PROBE)
            return [Check("mlflow registry", "ok", f"versions of {model} can be created")]
        probe = f"{PROBE}-{uuid4().hex[:12]}"
        client.create_registered_model(probe)
        client.delete_registered_model(probe)
    except (MlflowException, SQLAlchemyError) as error:
        return [_forbidden("mlflow registry", f"{model} cannot be registered at {redact(uri)}", error)]
    return [Check("mlflow registry", "ok", f"model {model} will be created")]


def _forbidden(name: str, what: str, error: Exception) -> Check:
    reason, remedy = explain(error)
    return Check(name, "error", f"{what}: {reason}", remedy)
