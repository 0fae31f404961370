"""Upload of a run's journal to MLflow, from a separate thread that retries until it succeeds.

The uploaded position is stored beside the journal, with the MLflow run's id, so that another process continues from it,
and a run that moves to another store is sent there completely. A process killed before it stores the position sends
the last request again; MLflow keeps metrics of equal name, step, time and value once.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag

from mrqm.files import write_whole
from pipelines.tracking.client import Client
from pipelines.tracking.errors import STORE_ERRORS, explain, is_away, is_refusal
from pipelines.tracking.event_log import Artifact, DatasetUsed, Entry, Journal, Metrics, Status, Tags
from pipelines.tracking.mlflow_names import MAX_DATASET_DIGEST_SIZE, MAX_METRICS_PER_BATCH, MLFLOW_DATASET_CONTEXT

SECONDS_BETWEEN_REQUESTS = 10.0

logger = logging.getLogger(__name__)


class Uploader:
    """Thread that sends the entries of a journal, earlier ones included, until it is closed.

    Args:
        journal: journal of the run.
        client: client of the MLflow store.
        run_id: id of the MLflow run.
    """

    def __init__(self, journal: Journal, client: Client, run_id: str) -> None:
        self._journal, self._client, self._run_id = journal, client, run_id
        self._receipt = journal.path.with_suffix(".sent")
        self._sent = _read_receipt(self._receipt, run_id)
        self._answers = True
        self._refused = False
        self._closed = False
        self._due, self._tried = threading.Event(), threading.Condition()
        self._thread = self._start()

    @property
    def pending(self) -> int:
        """Number of entries that are not yet sent."""
        return sum(1 for _ in self._journal.read(self._sent))

    @property
    def answers(self) -> bool:
        """True if the last request was answered."""
        return self._answers

    def wake(self) -> None:
        """Send now instead of after the usual interval."""
        if not self._thread.is_alive():  # an unexpected error, which Python printed, ended it
            self._thread = self._start()
        self._due.set()

    def flush(self, patience: float) -> int:
        """Wait at most `patience` seconds until all entries are sent or refused; return the number of the others."""
        self._refused = False
        self.wake()
        with self._tried:
            self._tried.wait_for(lambda: self._refused or self._sent == self._journal.size, patience)
        return self.pending

    def close(self, patience: float) -> int:
        """Flush, then stop the thread; return the number of unsent entries."""
        pending = self.flush(patience)
        self._closed = True
        self._due.set()
        self._thread.join(0 if pending else None)  # it may be waiting for an unreachable server
        return pending

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="MLflow", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        while not self._closed:
            self._send_all()
            with self._tried:
                self._tried.notify_all()
            self._due.wait(SECONDS_BETWEEN_REQUESTS)
            self._due.clear()

    def _send_all(self) -> None:
        try:
            for batch, position in _batches(self._journal.read(self._sent)):
                self._send(batch)
                self._sent = position
                self._write_receipt()
                if not self._answers:
                    self._answers = True
                    logger.warning("MLflow answers again; sending the reports kept in %s", self._journal.path)
        except STORE_ERRORS as error:
            self._refused = is_refusal(error)
            if self._answers:
                self._answers = False
                logger.warning(
                    "MLflow does not %s (%s); reports are kept in %s and sent when it does",
                    "answer" if is_away(error) else "accept reports",
                    explain(error)[0],
                    self._journal.path,
                )

    def _write_receipt(self) -> None:
        try:
            write_whole(self._receipt, json.dumps({"run_id": self._run_id, "bytes": self._sent}))
        except OSError as error:
            logger.warning("%s: %s; the next command may send some reports again", self._receipt, error)

    def _send(self, batch: list[Entry]) -> None:
        metrics = [
            Metric(name, value, entry.time, entry.step)
            for entry in batch
            if isinstance(entry, Metrics)
            for name, value in entry.values.items()
        ]
        for first in range(0, len(metrics), MAX_METRICS_PER_BATCH):
            self._client.log_batch(self._run_id, metrics=metrics[first : first + MAX_METRICS_PER_BATCH])
        match batch[0]:
            case Tags(values=values):
                self._client.log_batch(self._run_id, tags=[RunTag(name, value) for name, value in values.items()])
            case Artifact() as artifact:
                self._send_file(artifact)
            case DatasetUsed() as used:
                self._client.log_inputs(self._run_id, [dataset_input(used)])
            case Status(status="RUNNING"):
                self._client.update_run(self._run_id, status="RUNNING")
            case Status(status=status, time=time):
                self._client.set_terminated(self._run_id, status, time)

    def _send_file(self, artifact: Artifact) -> None:
        path = self._journal.path.parent / artifact.file
        if path.is_file():
            self._client.log_artifact(self._run_id, str(path), artifact.folder)
        else:
            logger.warning("%s: was removed before it could be sent to MLflow", path)


def _read_receipt(path: Path, run_id: str) -> int:
    """Read the number of bytes of the journal that were sent to an MLflow run."""
    if not path.is_file():
        return 0
    receipt = json.loads(path.read_text())
    return receipt["bytes"] if receipt["run_id"] == run_id else 0


def _batches(entries: Iterable[tuple[Entry, int]]) -> Iterator[tuple[list[Entry], int]]:
    """Group entries by request, metrics together and all others alone, with the position after them."""
    batch: list[Entry] = []
    size = end = 0
    for entry, position in entries:
        weight = len(entry.values) if isinstance(entry, Metrics) else MAX_METRICS_PER_BATCH
        if batch and size + weight > MAX_METRICS_PER_BATCH:
            yield batch, end
            batch, size = [], 0
        batch.append(entry)
        size, end = size + weight, position
    if batch:
        yield batch, end


def dataset_input(used: DatasetUsed) -> DatasetInput:
    """Convert the data of a run to MLflow's dataset input."""
    dataset = Dataset(
        name=used.name,
        digest=used.digest[:MAX_DATASET_DIGEST_SIZE],
        source_type="local",
        source=json.dumps({"uri": used.source}),
        profile=json.dumps(used.counts),
    )
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, used.context)])
