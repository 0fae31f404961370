"""Logging of an evaluation as an MLflow run, with its report and a link to the evaluated model."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlflow.entities import LoggedModelInput, Metric
from mlflow.entities.model_registry import ModelVersion

from mrqm.redaction import redact
from mrqm.structures.metric import protocol_tag
from pipelines.console.tables import ui_lines
from pipelines.evaluation.evaluate import EvaluationResult
from pipelines.registry.lineage import VIEW, WEIGHTS_DIGEST
from pipelines.registry.model_version import DATA
from pipelines.tracking.client import Client, equals
from pipelines.tracking.create_run import log_config, origin_tags
from pipelines.tracking.errors import STORE_ERRORS, TrackingError, explain
from pipelines.tracking.event_log import DatasetUsed
from pipelines.tracking.mlflow_names import MLFLOW_SOURCE_NAME
from pipelines.tracking.store import find_experiment, first_contact, resolve_experiment, resolve_uri
from pipelines.tracking.tracker import metric_name
from pipelines.tracking.uploader import dataset_input

SOURCE = "mrqm evaluate"
LOGGED_MODEL = re.compile("models:/(m-[0-9a-f]{32})")
OF_PREDICTIONS = ("data.", "evaluation.")
"""Prefixes of the settings on which the metrics of predictions depend."""


@dataclass(frozen=True)
class _Origin:
    """Training run and registered version of an evaluated model.

    Attributes:
        run_id: id of its training's MLflow run.
        version: version in the registry.
    """

    run_id: str | None = None
    version: ModelVersion | None = None

    @property
    def model_id(self) -> str | None:
        """Id of the logged model of the version."""
        logged = LOGGED_MODEL.fullmatch(self.version.source) if self.version else None
        return logged and logged[1]

    def tags(self) -> dict[str, str]:
        known = {"evaluated.run_id": self.run_id or ""}
        if self.version is not None:
            known |= {"evaluated.model": self.version.name, "evaluated.version": str(self.version.version)}
        return {key: value for key, value in known.items() if value}


def track_evaluation(result: EvaluationResult, report: Sequence[Path]) -> str:
    """Log metrics, parameters, data, model and the report's files as an MLflow run.

    The model is found in MLflow by its weights, whatever the path or name by which it was evaluated.

    Args:
        result: result of the evaluation.
        report: files of the report.

    Returns:
        Text for the user that tells where the run is displayed.

    Raises:
        TrackingError: the store cannot be used, or accepted only a part.
    """
    settings = result.config.tracking
    uri = resolve_uri(settings)
    with first_contact(uri):
        client = Client(uri)
        experiment = find_experiment(client, resolve_experiment(settings), uri)
    try:
        origin = _find_origin(client, result, redact(uri))
        run_id = client.create_run(experiment, f"evaluate {result.subject}", _tags(result, origin)).info.run_id
        _log(client, run_id, result, origin, report)
        client.set_terminated(run_id)
    except STORE_ERRORS as error:
        reason, remedy = explain(error)
        raise TrackingError(f"MLflow at {redact(uri)} did not accept the evaluation: {reason}; {remedy}") from error
    return "\n".join(f"{name:<17}{text}" for name, text in ui_lines(redact(uri), run_id).items())


def _find_origin(client: Client, result: EvaluationResult, shown_uri: str) -> _Origin:
    """Find the registered version with the same weights; for others, the MLflow run that the run's folder names."""
    if result.weights is None:
        return _Origin()
    versions = client.versions(equals("tags.`checkpoint.sha256`", result.weights))
    if version := next(versions, None):
        return _Origin(version.run_id or None, version)
    for folder in (Path(result.subject), Path(result.subject).parent):  # a run's folder, or a checkpoint in it
        if (known := folder / "mlflow.json").is_file():
            return _Origin(json.loads(known.read_text()).get(shown_uri))
    return _Origin()


def _tags(result: EvaluationResult, origin: _Origin) -> dict[str, str]:
    tags = {protocol_tag(name): version for name, version in result.versions.items()}
    view = {VIEW: result.view} if result.view else {}
    weights = {WEIGHTS_DIGEST: result.weights} if result.weights else {}
    named = {MLFLOW_SOURCE_NAME: SOURCE, DATA: result.data_digest}
    return {**origin_tags(), **named, **view, **weights, **tags, **origin.tags()}


def _data_used(result: EvaluationResult) -> DatasetUsed:
    data, records = result.config.data, result.found.records
    return DatasetUsed(
        context="validation",
        name=f"{data.name}/{PurePosixPath(data.val).name}",
        digest=result.data_digest,
        source=f"{data.root}/{data.val}",
        counts={
            "images": len({record.path for record in records}),
            "items": len(records),  # tiles, where each is an image of its own
            "objects": sum(len(record.boxes) for record in records),
        },
    )


def _log(client: Client, run_id: str, result: EvaluationResult, origin: _Origin, report: Sequence[Path]) -> None:
    log_config(client, run_id, result.config, OF_PREDICTIONS if result.weights is None else ("",))
    data = dataset_input(_data_used(result))
    client.log_inputs(run_id, [data], [LoggedModelInput(origin.model_id)] if origin.model_id else [])
    now = int(time.time() * 1000)
    metrics = [
        Metric(
            metric_name(name),
            value,
            now,
            0,
            model_id=origin.model_id,
            dataset_name=data.dataset.name,
            dataset_digest=data.dataset.digest,
        )
        for name, value in result.metrics.items()
        if math.isfinite(value)
    ]
    client.log_batch(run_id, metrics=metrics)
    for file in report:
        client.log_artifact(run_id, file, "report")
