"""Registration of a checkpoint as an MLflow model: code and weights without pickles, for hosts without `mrqm`."""

from __future__ import annotations

import base64
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from PIL import Image

import mrqm
from mrqm.checkpoint.files import CONFIG, METRICS, WEIGHTS
from mrqm.config import Config
from mrqm.structures.metric import read_metrics
from pipelines.registry.descriptions import ABOUT, describe_version
from pipelines.registry.lineage import describe_lineage
from pipelines.registry.model_version import REGISTERED_AS
from pipelines.tracking.client import equals, redacted_file
from pipelines.tracking.errors import STORE_ERRORS, explain
from pipelines.tracking.tracker import Tracker, metric_name

REQUIREMENTS = (
    "numpy", "pillow", "pydantic", "pyyaml", "safetensors", "scipy", "timm", "torch", "torchvision",
    "typing-extensions",
)  # fmt: skip
"""Packages that a model imports, besides MLflow, which adds its own version."""


@dataclass(frozen=True)
class RegisteredModel:
    """A model in MLflow.

    Attributes:
        uri: URI for `mlflow.pyfunc.load_model`.
        name: name in the registry; None if it was only logged.
        version: number of the version; None if it was only logged.
    """

    uri: str
    name: str | None
    version: str | None


def register(
    tracker: Tracker, checkpoint: Path, metrics: Mapping[str, float], name: str | None, stamp: Mapping[str, str]
) -> RegisteredModel:
    """Log a checkpoint as a model of the tracker's run and, with a name, register it with metrics and origin as tags.

    For a run that already registered its model, return that model, also if the model was renamed meanwhile.

    Args:
        tracker: tracker of the run.
        checkpoint: folder of the checkpoint, see `mrqm.checkpoint.folder`.
        metrics: metrics of the checkpoint by name.
        name: name in the registry; None to log the model without registering it.
        stamp: further tags: the protocol's version and the data's digest.

    Returns:
        The registered model, or the logged one if it has no name.
    """
    if name and (earlier := _registered_before(tracker, name)):
        return RegisteredModel(f"models:/{earlier.name}/{earlier.version}", earlier.name, str(earlier.version))
    logged = _log_model(tracker, checkpoint)
    if name is None:
        return RegisteredModel(logged.model_uri, None, None)
    if tracker.client.model(name) is None:
        tracker.client.create_registered_model(name, description=ABOUT)
    tags = (
        {metric_name(metric.key): metric.text for metric in read_metrics(metrics)}
        | describe_lineage(checkpoint)
        | dict(stamp)
    )
    tags[REGISTERED_AS] = name
    tags["run.name"] = tracker.client.get_run(tracker.run_id).info.run_name
    made = tracker.client.create_model_version(
        name,
        logged.model_uri,
        tracker.run_id,
        tags=tags,
        description=describe_version(tags, metrics),
        model_id=logged.model_id,
    )
    return RegisteredModel(f"models:/{name}/{made.version}", name, made.version)


def _registered_before(tracker: Tracker, name: str) -> ModelVersion | None:
    """Find the version that the tracker's run registered under a name, also after a rename; None if there is none."""
    versions = tracker.client.versions(equals("run_id", tracker.run_id))
    return next((made for made in versions if made.tags.get(REGISTERED_AS, made.name) == name), None)


def _log_model(tracker: Tracker, checkpoint: Path) -> mlflow.models.model.ModelInfo:
    mlflow.set_tracking_uri(tracker.uri)
    # MLflow warns three times that it does not validate images; the model itself does.
    unheard = warnings.catch_warnings(record=True)
    with tempfile.TemporaryDirectory() as temporary, mlflow.start_run(run_id=tracker.run_id), unheard:
        folder = Path(temporary) / "checkpoint"
        folder.mkdir()
        shutil.copy(checkpoint / WEIGHTS, folder)  # not the optimizer's state
        for file in (CONFIG, METRICS):
            with redacted_file(checkpoint / file) as text:
                shutil.copy(text, folder)
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),  # whose type hints are the signature
            artifacts={"checkpoint": str(folder)},
            code_paths=[str(Path(mrqm.__file__).parent)],
            input_example=[_example_image()],
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
        )


def _example_image() -> str:
    """Make a tiny image, encoded as in a request."""
    content = io.BytesIO()
    Image.new("RGB", (32, 32), "gray").save(content, "png")
    return base64.b64encode(content.getvalue()).decode()


logger = logging.getLogger(__name__)


def register_if_possible(
    config: Config, tracker: Tracker, checkpoint: Path, metrics: Mapping[str, float], stamp: Mapping[str, str]
) -> RegisteredModel | None:
    """Register a checkpoint; a failure is only logged, since the training has already finished.

    Args:
        config: training configuration.
        tracker: tracker of the run.
        checkpoint: folder of the checkpoint.
        metrics: metrics of the checkpoint by name.
        stamp: further tags: the protocol's version and the data's digest.

    Returns:
        The model in MLflow; None if MLflow does not answer or refuses it.
    """
    if not tracker.arrived():
        return None
    try:
        return register(tracker, checkpoint, metrics, config.tracking.registered_model_name, stamp)
    except STORE_ERRORS as error:
        logger.warning("MLflow at %s did not accept the model: %s", tracker.shown_uri, explain(error)[0])
        return None
