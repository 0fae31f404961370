"""The MLflow run of one training.

One process writes, the driver: workers report to it through `pipelines.compute.messages`, so that a local SQLite file
is enough for any number of workers and a server's credentials never leave it. Only a new run is made at once; all that
follows goes through `pipelines.tracking.event_log`. Run ids are explicit; no ambient run exists.
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
from mrqm.structures.step_report import StepReport
from pipelines.compute.messages import PROTOCOL, EpochReport, StepSkipped, SystemSample
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
"""Seconds for what is left to send when a training has ended well."""
SHORT_PATIENCE = 5.0
"""The same when it was stopped or failed, or MLflow is known to be away."""

logger = logging.getLogger(__name__)


class Tracker:
    """The MLflow run of one training; leaving its context ends the run as FINISHED, FAILED or KILLED.

    Nothing here waits for MLflow but the beginning of a new run, and the end.

    Args:
        config: of the training.
        folder: of the run, which remembers the MLflow run, so that a continued run goes on in it.
        parent: id of the run that this one is part of, as a sweep's trial is.
        tags: further tags of the run.
        patience: seconds for what is left to send when the training has ended well.

    Attributes:
        uri: of the store.
        shown_uri: the same without a password.
        client: of the store.
        run_id: of the MLflow run.
        pending: reports that had not arrived when the context was left.

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
            logger.warning("%s; until it answers, what the run reports is kept in %s", error, folder.path)
        folder.write_mlflow_run(self.shown_uri, self.run_id)
        self._folder = folder
        self._journal = Journal(folder.path)
        self._journal.add(Status(time=now(), status="RUNNING"))
        self._delivery = Uploader(self._journal, self.client, self.run_id)

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
        patient = kind is None and self._delivery.answers
        self.pending = self._delivery.close(self._patience if patient else SHORT_PATIENCE)
        if kind is not None and self.pending:
            logger.warning("%d reports wait in %s; the same command sends them", self.pending, self._journal.path)

    def arrived(self) -> bool:
        """Wait until MLflow has all that was reported, a minute at most, or seconds if it is away; whether it has."""
        return self._delivery.flush(PATIENCE if self._delivery.answers else SHORT_PATIENCE) == 0

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self._journal.add(Tags(values=dict(tags)))

    def log_dataset(self, used: DatasetUsed) -> None:
        """Note data that the run uses, once for training and once for validation."""
        if not self._journal.has_dataset(used.context):
            self._journal.add(used)

    def log_step(self, report: StepReport) -> None:
        """Note losses and pace."""
        metrics = {f"train/{name}": value for name, value in report.losses.items()}
        metrics |= {"train/lr": report.lr, "train/images_per_second": report.images_per_second}
        self.log_metrics(metrics, report.step)

    def log_epoch(self, report: EpochReport, pictures: Mapping[str, Path]) -> None:
        """Note an epoch's mean loss and its validation, at the step it was made, and its pictures.

        Args:
            report: of the epoch.
            pictures: files of the run's folder by the artifact folder they go into.
        """
        validation = {name: value for name, value in report.metrics.items() if name.startswith(f"{PROTOCOL}/")}
        own = {"epoch": report.epoch, "train/epoch_loss": report.metrics["train/loss"]}
        self.log_metrics(own | validation, report.step)
        for folder, path in pictures.items():
            self.log_file(path, folder)
        self._delivery.wake()

    def log_system(self, sample: SystemSample) -> None:
        """Note how busy a machine is."""
        values = {f"system/node_{sample.node}/{name}": value for name, value in sample.values.items()}
        self._journal.add(Metrics(time=now(), step=sample.step, values=values))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Note the finite ones of some metrics; what was noted at this step or a later one is not noted again."""
        finite = {metric_name(name): value for name, value in metrics.items() if math.isfinite(value)}
        self._journal.add_metrics(finite, step)

    def log_divergence(self, fault: StepSkipped) -> None:
        """Note a step that taught nothing, by name, and how many there were."""
        self.tag({f"fault.step_{fault.step:06d}": f"{fault.what}; kept in {fault.folder}"})
        self.log_metrics({"skipped_steps": fault.steps}, fault.step)

    def log_interruptions(self, number: int, seconds: float, step: int) -> None:
        """Note how many there were until now and what they cost; several may end at the same step."""
        self._journal.add(Metrics(time=now(), step=step, values={"restarts": number, "seconds_lost": seconds}))

    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """Everything noted since the run began: steps and values by name."""
        history: dict[str, list[tuple[int, float]]] = {}
        for entry, _ in self._journal.read():
            if isinstance(entry, Metrics):
                for name, value in entry.values.items():
                    history.setdefault(name, []).append((entry.step, value))
        return history

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Note a file of the run's folder, which goes into an artifact folder."""
        self._journal.add(Artifact(file=path.relative_to(self._folder.path).as_posix(), folder=folder))


def require_store(config: Config, folder: RunFolder) -> None:
    """Find out whether a new run can be made, before anything starts; a run that has one needs no store.

    Raises:
        TrackingError: the store cannot be used.
    """
    if folder.read_mlflow_run(redact(resolve_uri(config.tracking))) is None:
        require_experiment(config.tracking)


def metric_name(name: str) -> str:
    """A name that MLflow allows: class names, whatever characters they have, are part of some."""
    parts = re.sub(r"[^\w.\- :/]", "_", name).split("/")
    return "/".join(part if part.strip(".") else "_" for part in parts)[:MAX_ENTITY_KEY_LENGTH]  # no `a//b`, no `a/..`


def _exists(client: Client, run_id: str) -> bool:
    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
