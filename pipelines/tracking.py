"""Everything that talks to MLflow while a model trains.

One process writes, the driver: it hears of everything through `pipelines.events`, so that a local SQLite file is enough
for any number of workers and a server's credentials never leave it. Run ids are explicit; no ambient run exists.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH

from mrqm.config import Config, TrackingConfig
from mrqm.engine import StepReport
from pipelines.events import PROTOCOL, EpochReport
from pipelines.runs import RunFolder, flatten

SECONDS_BETWEEN_WRITES = 10.0
FIRST_CONTACT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}

logger = logging.getLogger(__name__)


class TrackingError(ValueError):
    """An MLflow store that cannot be used."""


def resolve_uri(settings: TrackingConfig) -> str:
    """The tracking URI: MLFLOW_TRACKING_URI if set, else the configuration's; SQLite files by absolute path."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or settings.uri
    path = sqlite_path(uri)
    return uri.replace(f":///{path}", f":///{path.resolve()}", 1) if path else uri


class Tracker:
    """The MLflow run of one training; leaving its context ends the run as FINISHED, FAILED or KILLED.

    Args:
        config: of the training.
        folder: of the run, which remembers the MLflow run, so that a continued run goes on in it.

    Raises:
        TrackingError: the store cannot be used.
    """

    def __init__(self, config: Config, folder: RunFolder) -> None:
        self.uri = resolve_uri(config.tracking)
        self._pending: list[Metric] = []
        self._written = time.monotonic()
        with first_contact(self.uri):
            self.client = MlflowClient(self.uri)
            experiment_id = find_experiment(self.client, config.tracking.experiment, self.uri)
            known = folder.read_mlflow_run(self.uri)
            self.run_id = known if known and _exists(self.client, known) else self._create(experiment_id, config)
            self.client.update_run(self.run_id, status="RUNNING")
        folder.write_mlflow_run(self.uri, self.run_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "FINISHED" if kind is None else "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
        try:
            self._write()
            self.client.set_terminated(self.run_id, status)
        except MlflowException as away:
            error = error or away  # what ended the training says more
        if isinstance(error, MlflowException):
            raise TrackingError(
                f"MLflow at {self.uri}: {error}; the checkpoints are kept and the same command goes on from them"
            ) from error

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        for name, value in tags.items():
            self.client.set_tag(self.run_id, name, value)

    def log_step(self, report: StepReport) -> None:
        """Note losses and pace; they are written together every ten seconds."""
        metrics = {f"train/{name}": value for name, value in report.losses.items()}
        metrics |= {"train/lr": report.lr, "train/images_per_second": report.images_per_second}
        self._note(metrics, report.step)
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self._write()

    def log_epoch(self, report: EpochReport, picture: Path | None) -> None:
        """Write an epoch's validation, at the step it was made, and its picture."""
        validation = {name: value for name, value in report.metrics.items() if name.startswith(f"{PROTOCOL}/")}
        self._note({"epoch": report.epoch, **validation}, report.step)
        self._write()
        if picture:
            self.client.log_artifact(self.run_id, str(picture), "pictures")

    def _create(self, experiment_id: str, config: Config) -> str:
        text = config.to_yaml()
        tags = {
            "mlflow.source.name": "mrqm train",
            "mrqm.version": version("mrqm"),
            "mrqm.config": hashlib.sha256(text.encode()).hexdigest()[:16],
        }
        run_id = self.client.create_run(experiment_id, run_name=config.name, tags=tags).info.run_id
        flat = flatten(config.model_dump(mode="json"))
        params = [Param(key, str(value)[:MAX_PARAM_VAL_LENGTH]) for key, value in flat.items()]
        for first in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(run_id, params=params[first : first + MAX_PARAMS_TAGS_PER_BATCH])
        self.client.log_text(run_id, text, "config.yaml")
        return run_id

    def _note(self, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self._pending += [
            Metric(metric_name(name), value, now, step) for name, value in metrics.items() if math.isfinite(value)
        ]

    def _write(self) -> None:
        """Write what is pending; a store that is away for a while costs no training."""
        self._written = time.monotonic()
        try:
            while self._pending:
                self.client.log_batch(self.run_id, metrics=self._pending[:MAX_METRICS_PER_BATCH])
                del self._pending[:MAX_METRICS_PER_BATCH]
        except MlflowException as error:
            logger.warning("MLflow at %s does not answer, metrics will be written later: %s", self.uri, error)


def metric_name(name: str) -> str:
    """A name with only characters that MLflow allows: class names are part of some."""
    return re.sub(r"[^\w.\- :/]", "_", name)


@contextmanager
def first_contact(uri: str) -> Iterator[None]:
    """Fail within seconds, and clearly, if nothing usable is at a URI; later requests are retried patiently."""
    before = {name: os.environ.get(name) for name in FIRST_CONTACT}
    os.environ.update({name: value for name, value in FIRST_CONTACT.items() if before[name] is None})
    logging.getLogger("alembic").setLevel(logging.WARNING)  # one line for each of fifty migrations of a new database
    try:
        if path := sqlite_path(uri):
            path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"MLflow at {uri} cannot be used: {error}\nset tracking.uri or MLFLOW_TRACKING_URI to a store that "
            "answers, such as sqlite:///mlflow.db"
        ) from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def find_experiment(client: MlflowClient, name: str, uri: str) -> str:
    """Id of the experiment of that name, made if there is none; `TrackingError` if it is deleted."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        path = sqlite_path(uri)
        # A file store keeps artifacts beside its database, wherever the command is run.
        return client.create_experiment(name, (path.parent / "mlruns").absolute().as_uri() if path else None)
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"experiment {name!r} at {uri} is deleted; restore it with `mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}` or set tracking.experiment to another name"
        )
    return experiment.experiment_id


def _exists(client: MlflowClient, run_id: str) -> bool:
    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def sqlite_path(uri: str) -> Path | None:
    """The database file of a SQLite URI."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None
