"""The one client of MLflow: what it sends has passed the gate for secrets, and what it lists is whole, not a page.

    with first_contact(uri):
        client = Client(uri)
        runs = list(client.runs([experiment], equals("tags.`sweep.name`", "lr")))

Only this module may call MLflow's `search_…`, which give the first page, or make an `MlflowClient`; a test says so.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from mrqm.redaction import redact

PAGE = 1000
"""Most that a listing asks for at once: MLflow's limit for models."""
UNQUOTABLE = re.compile(r"['\\]")


class Client(MlflowClient):
    """MLflow's client with listings that end only where the store does, and `redact` before all that is written."""

    def experiments(self) -> Iterator[Experiment]:
        """All experiments that are not deleted."""
        return _pages(self.search_experiments, None, ())

    def runs(self, experiments: Sequence[str], condition: str = "", order: Sequence[str] = ()) -> Iterator[Run]:
        """All runs of some experiments that are not deleted.

        Args:
            experiments: their ids.
            condition: in MLflow's search language; empty takes all.
            order: such as `attributes.start_time ASC`.
        """

        def search(filter_string: str | None, **page: Any) -> Any:
            return self.search_runs(list(experiments), filter_string or "", **page)

        return _pages(search, condition, order)

    def models(self, condition: str | None = None) -> Iterator[RegisteredModel]:
        """All registered models."""
        return _pages(self.search_registered_models, condition, ())

    def model(self, name: str) -> RegisteredModel | None:
        """The registered model of a name, also of one that MLflow would not take any more; None if there is none."""
        return next((model for model in self.models(equals("name", name)) if model.name == name), None)

    def versions(self, condition: str | None = None) -> Iterator[ModelVersion]:
        """All versions of all registered models."""
        return _pages(self.search_model_versions, condition, ())

    def create_run(self, experiment_id: str, run_name: str, tags: Mapping[str, str]) -> Run:
        """Make a run; see MLflow."""
        return super().create_run(experiment_id, run_name=redact(run_name), tags=_redacted(tags))

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric] = (), params: Sequence[Param] = (), tags: Sequence[RunTag] = ()
    ) -> None:
        """Log metrics, parameters and tags; see MLflow."""
        params = [Param(param.key, redact(param.value)) for param in params]
        super().log_batch(run_id, metrics, params, [RunTag(tag.key, redact(tag.value)) for tag in tags])

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """Log a text as a file; see MLflow."""
        super().log_text(run_id, redact(text), artifact_file)

    def log_artifact(self, run_id: str, local_path: str | Path, artifact_path: str | None = None) -> None:
        """Log a file; see MLflow."""
        with redacted_file(Path(local_path)) as path:
            super().log_artifact(run_id, str(path), artifact_path)

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetInput] = (), models: Sequence[Any] = ()) -> None:
        """Log data and models that a run uses; see MLflow."""
        inputs = [DatasetInput(_redacted_dataset(used.dataset), used.tags) for used in datasets]
        super().log_inputs(run_id, inputs, list(models) or None)

    def create_registered_model(self, name: str, description: str | None = None) -> RegisteredModel:
        """Make a registered model; see MLflow."""
        return super().create_registered_model(name, description=description and redact(description))

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        description: str | None = None,
        model_id: str | None = None,
    ) -> ModelVersion:
        """Register a version; see MLflow."""
        return super().create_model_version(
            name,
            source,
            run_id,
            tags=_redacted(tags or {}),
            description=description and redact(description),
            model_id=model_id,
        )

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag of a registered model; see MLflow."""
        super().set_registered_model_tag(name, key, redact(value))


def equals(key: str, value: str) -> str:
    """A condition on a key, as MLflow's search language has it, whatever characters the value holds.

    The language has no escapes: what it cannot quote becomes a pattern, by which more may be found than is asked for.

    Args:
        key: such as `name`, or ``tags.`sweep.name` ``.
        value: that it has to have.
    """
    if not UNQUOTABLE.search(value):
        return f"{key} = '{value}'"
    return f"{key} LIKE '{UNQUOTABLE.sub('_', value)}'"


@contextmanager
def redacted_file(path: Path) -> Iterator[Path]:
    """A file as it may be sent: itself or, if it is a text with secrets, a copy of the same name without them."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:  # a picture
        yield path
        return
    if (clean := redact(text)) == text:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="mrqm-") as folder:
        copy = Path(folder) / path.name
        copy.write_text(clean, encoding="utf-8")
        yield copy


def _pages(search: Callable[..., Any], condition: str | None, order: Sequence[str]) -> Iterator[Any]:
    """Everything that a search of MLflow finds, page after page."""
    token = None
    while True:
        page = search(filter_string=condition, max_results=PAGE, order_by=list(order) or None, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _redacted(values: Mapping[str, str]) -> dict[str, str]:
    return {key: redact(value) for key, value in values.items()}


def _redacted_dataset(dataset: Dataset) -> Dataset:
    return Dataset(
        name=redact(dataset.name),
        digest=dataset.digest,
        source_type=dataset.source_type,
        source=redact(dataset.source),
        schema=dataset.schema,
        profile=dataset.profile,
    )
