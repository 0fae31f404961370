"""The MLflow run of one training.

Only the driver writes: workers report to it through `pipelines.compute.messages`, so that a local SQLite file is enough
for any number of workers and a server's credentials stay in the driver. Only a new run is created at once; all reports
go through `pipelines.tracking.event_log`. Run ids are explicit; there is no active run.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from mlflow.exceptions import MlflowException

from mrqm.config import Config
from mrqm.redaction import redact
from mrqm.structures.metric import TRAIN, VALIDATION, select_protocol, with_protocol
from mrqm.structures.step_report import StepReport
from pipelines.compute.messages import EpochReport, StepSkipped, SystemSample
from pipelines.failures.storage_wait import write_patiently
from pipelines.storage.run_dir import RunFolder
from pipelines.tracking.client import Client
from pipelines.tracking.create_run import create_run
from pipelines.tracking.errors import UnreachableError
from pipelines.tracking.event_log import Artifact, DatasetUsed, EndStatus, Journal, Metrics, Status, Tags, now
from pipelines.tracking.mlflow_names import MAX_ENTITY_KEY_LENGTH, MAX_TAG_VAL_LENGTH
from pipelines.tracking.store import find_experiment, first_contact, require_experiment, resolve_experiment, resolve_uri
from pipelines.tracking.uploader import Uploader

PATIENCE = 60.0
"""Seconds to wait for the last reports after a successful training."""
SHORT_PATIENCE = 5.0
"""Seconds to wait for the last reports after a stop or failure, or while MLflow does not answer."""

logger = logging.getLogger(__name__)


class Tracker:
    """The MLflow run of one training; leaving its context ends the run as FINISHED, FAILED or KILLED.

    Only the beginning of a new run, and the end, wait for MLflow.

    Args:
        config: training configuration.
        folder: folder of the run, which stores the MLflow run's id for a resumed run.
        parent: id of the parent run, as a sweep's trial has one.
        tags: further tags of the run.
        patience: seconds to wait for the last reports after a successful training.

    Attributes:
        uri: URI of the store.
        shown_uri: URI of the store without a password.
        client: client of the store.
        run_id: id of the MLflow run.
        pending: number of reports not yet sent when the context was left.

    Raises:
        TrackingError: the store cannot be used.
        JournalError: the folder's journal is damaged.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        parent: str | None = None,
        tags: Mapping[str, str] = MappingProxyType({}),
        patience: float = PATIENCE,
    ) -> None:
        self._patience = patience
        self.uri = resolve_uri(config.tracking)
        self.shown_uri = redact(self.uri)
        self.run_id = folder.read_mlflow_run(self.shown_uri) or ""
        try:
            with first_contact(self.uri):
                self.client = Client(self.uri)
                experiment = find_experiment(self.client, resolve_experiment(config.tracking), self.uri)
                if not self.run_id or not _exists(self.client, self.run_id):
                    self.run_id = create_run(self.client, experiment, config, parent, tags)
        except UnreachableError as error:
            if not self.run_id:
                raise
            logger.warning("%s; until it answers, reports are kept in %s", error, folder.path)
        folder.write_mlflow_run(self.shown_uri, self.run_id)
        self._folder = folder
        self._journal = Journal(folder.path)
        self._journal.add(Status(time=now(), status="RUNNING"))
        self._uploader = Uploader(self._journal, self.client, self.run_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status: EndStatus = "FINISHED"
        if kind is not None:
            status = "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
        if status == "FAILED":
            self.tag({"last_failure": f"{kind.__name__}: {error}"[:MAX_TAG_VAL_LENGTH]})  # type: ignore[union-attr]
        self._journal.add(Status(time=now(), status=status))
        if kind is None:
            write_patiently(self._journal.flush, self._journal.path.name, logger.warning)
        patient = kind is None and self._uploader.answers
        self.pending = self._uploader.close(self._patience if patient else SHORT_PATIENCE)
        if kind is not None and self.pending:
            path = self._journal.path
            logger.warning("%d reports are kept in %s; repeat the command to send them", self.pending, path)

    def arrived(self) -> bool:
        """Wait until MLflow has all reports: a minute at most, or seconds if it is away; return true if it has."""
        return self._uploader.flush(PATIENCE if self._uploader.answers else SHORT_PATIENCE) == 0

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self._journal.add(Tags(values=dict(tags)))

    def log_dataset(self, used: DatasetUsed) -> None:
        """Log data that the run uses, once for training and once for validation."""
        if not self._journal.has_dataset(used.context):
            self._journal.add(used)

    def log_step(self, report: StepReport) -> None:
        """Log the losses, the learning rate and the speed of a step."""
        values = {**report.losses, "lr": report.lr, "images_per_second": report.images_per_second}
        self.log_metrics(with_protocol(TRAIN, values), report.step)

    def log_epoch(self, report: EpochReport, pictures: Mapping[str, Path]) -> None:
        """Log an epoch's mean loss, validation metrics and pictures, at the step of the epoch's end.

        Args:
            report: report of the epoch.
            pictures: files of the run's folder by artifact folder.
        """
        validation = select_protocol(report.metrics, VALIDATION)
        own = {"epoch": report.epoch, "train/epoch_loss": report.metrics["train/loss"]}
        self.log_metrics(own | validation, report.step)
        for folder, path in pictures.items():
            self.log_file(path, folder)
        self._uploader.wake()

    def log_system(self, sample: SystemSample) -> None:
        """Log the utilisation of a machine."""
        values = {f"system/node_{sample.node}/{name}": value for name, value in sample.values.items()}
        self._journal.add(Metrics(time=now(), step=sample.step, values=values))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the finite metrics among some, except those already logged at this step or a later one.

        Args:
            metrics: metrics by name.
            step: optimizer steps of the run.
        """
        finite = {metric_name(name): value for name, value in metrics.items() if math.isfinite(value)}
        self._journal.add_metrics(finite, step)

    def log_divergence(self, step: StepSkipped) -> None:
        """Log a skipped step, by number, and the count of skipped steps."""
        self.tag({f"divergence.step_{step.step:06d}": f"{step.what}; kept in {step.folder}"})
        self.log_metrics({"skipped_steps": step.steps}, step.step)

    def log_interruptions(self, number: int, seconds: float, step: int) -> None:
        """Log the interruptions until now; several may end at the same step.

        Args:
            number: number of interruptions.
            seconds: seconds lost by them.
            step: optimizer steps of the run.
        """
        self._journal.add(Metrics(time=now(), step=step, values={"restarts": number, "seconds_lost": seconds}))

    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """Read all metrics logged since the run began: steps and values by name."""
        history: dict[str, list[tuple[int, float]]] = {}
        for entry, _ in self._journal.read():
            if isinstance(entry, Metrics):
                for name, value in entry.values.items():
                    history.setdefault(name, []).append((entry.step, value))
        return history

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Log a file as an artifact.

        Args:
            path: file in the run's folder.
            folder: artifact folder; None for the top folder.
        """
        self._journal.add(Artifact(file=path.relative_to(self._folder.path).as_posix(), folder=folder))


def require_store(config: Config, folder: RunFolder) -> None:
    """Check that a new MLflow run can be created, before anything starts; a run that has one needs no store.

    Args:
        config: training configuration.
        folder: folder of the run.

    Raises:
        TrackingError: the store cannot be used.
    """
    if folder.read_mlflow_run(redact(resolve_uri(config.tracking))) is None:
        require_experiment(config.tracking)


def metric_name(name: str) -> str:
    """Make a metric name that MLflow allows, for names with class names of any characters."""
    parts = re.sub(r"[^\w.\- :/]", "_", name).split("/")
    return "/".join(part if part.strip(".") else "_" for part in parts)[:MAX_ENTITY_KEY_LENGTH]  # no `a//b`, no `a/..`


def _exists(client: Client, run_id: str) -> bool:
    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
