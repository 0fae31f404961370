"""An evaluation as a run in MLflow, with its report."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

from mlflow.entities import Metric

from mrqm.config import TrackingConfig
from mrqm.redaction import redact
from pipelines.evaluate import Assessment
from pipelines.mlflow_client import Client
from pipelines.mlflow_store import find_experiment, first_contact, resolve_uri
from pipelines.report import ui_command
from pipelines.tracking import metric_name


def track_evaluation(assessment: Assessment, report: Sequence[Path]) -> str:
    """Log metrics, tags and the report's files; returns how to look at them.

    Raises:
        TrackingError: the store cannot be used.
    """
    settings = TrackingConfig()
    uri = resolve_uri(settings)
    with first_contact(uri):
        client = Client(uri)
        experiment = find_experiment(client, settings.experiment, uri)
        name = f"evaluate {assessment.subject}"
        run_id = client.create_run(experiment, run_name=name, tags=_tags(assessment)).info.run_id
    now = int(time.time() * 1000)
    finite = {name: value for name, value in assessment.metrics.items() if math.isfinite(value)}
    client.log_batch(run_id, metrics=[Metric(metric_name(name), value, now, 0) for name, value in finite.items()])
    for file in report:
        client.log_artifact(run_id, str(file), "report")
    client.set_terminated(run_id)
    return f"MLflow run {run_id}: {ui_command(redact(uri), run_id)}"


def _tags(assessment: Assessment) -> dict[str, str]:
    tags = {f"protocol.{name}": version for name, version in assessment.versions.items()}
    view = {"evaluation.view": assessment.view} if assessment.view else {}
    return {"mlflow.source.name": "mrqm evaluate", "data.digest": assessment.data_digest, **view, **tags}
