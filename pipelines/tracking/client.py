"""The MLflow client of this project: it redacts secrets in everything it sends, and its listings cover all pages.

    with first_contact(uri):
        client = Client(uri)
        runs = list(client.runs([experiment], equals("tags.`sweep.name`", "lr")))

Only this module may call MLflow's `search_…`, which return the first page only, or make an `MlflowClient`; a test
checks this.
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
"""Page size of a listing: MLflow's limit for models."""
UNQUOTABLE = re.compile(r"['\\]")


class Client(MlflowClient):
    """MLflow's client with complete listings and with secrets redacted from all that it writes."""

    def experiments(self) -> Iterator[Experiment]:
        """List all experiments that are not deleted."""
        return _pages(self.search_experiments, None, ())

    def runs(self, experiments: Sequence[str], condition: str = "", order: Sequence[str] = ()) -> Iterator[Run]:
        """List all runs of some experiments that are not deleted.

        Args:
            experiments: ids of the experiments.
            condition: filter in MLflow's search language; empty for all runs.
            order: sort keys, such as `attributes.start_time ASC`.

        Returns:
            Iterator over the runs.
        """

        def search(filter_string: str | None, **page: Any) -> Any:
            return self.search_runs(list(experiments), filter_string or "", **page)

        return _pages(search, condition, order)

    def models(self, condition: str | None = None) -> Iterator[RegisteredModel]:
        """List all registered models."""
        return _pages(self.search_registered_models, condition, ())

    def model(self, name: str) -> RegisteredModel | None:
        """Find a registered model, also by a name that MLflow no longer allows; None if there is none."""
        return next((model for model in self.models(equals("name", name)) if model.name == name), None)

    def versions(self, condition: str | None = None) -> Iterator[ModelVersion]:
        """List all versions of all registered models."""
        return _pages(self.search_model_versions, condition, ())

    def create_run(self, experiment_id: str, run_name: str, tags: Mapping[str, str]) -> Run:
        """Create a run, as `MlflowClient.create_run` does.

        Args:
            experiment_id: id of the experiment.
            run_name: name of the run.
            tags: tags of the run.

        Returns:
            The new run.
        """
        return super().create_run(experiment_id, run_name=redact(run_name), tags=_redacted(tags))

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric] = (), params: Sequence[Param] = (), tags: Sequence[RunTag] = ()
    ) -> None:
        """Log metrics, parameters and tags, as `MlflowClient.log_batch` does.

        Args:
            run_id: id of the run.
            metrics: metrics with their steps and times.
            params: parameters.
            tags: tags.
        """
        params = [Param(param.key, redact(param.value)) for param in params]
        super().log_batch(run_id, metrics, params, [RunTag(tag.key, redact(tag.value)) for tag in tags])

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """Log a text as an artifact, as `MlflowClient.log_text` does.

        Args:
            run_id: id of the run.
            text: content of the file.
            artifact_file: path of the file among the run's artifacts.
        """
        super().log_text(run_id, redact(text), artifact_file)

    def log_artifact(self, run_id: str, local_path: str | Path, artifact_path: str | None = None) -> None:
        """Log a file as an artifact, as `MlflowClient.log_artifact` does.

        Args:
            run_id: id of the run.
            local_path: path of the file.
            artifact_path: folder among the run's artifacts; None for the top folder.
        """
        with redacted_file(Path(local_path)) as path:
            super().log_artifact(run_id, str(path), artifact_path)

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetInput] = (), models: Sequence[Any] = ()) -> None:
        """Log data and models that a run uses, as `MlflowClient.log_inputs` does.

        Args:
            run_id: id of the run.
            datasets: data sets.
            models: models.
        """
        inputs = [DatasetInput(_redacted_dataset(used.dataset), used.tags) for used in datasets]
        super().log_inputs(run_id, inputs, list(models) or None)

    def create_registered_model(self, name: str, description: str | None = None) -> RegisteredModel:
        """Create a registered model, as `MlflowClient.create_registered_model` does.

        Args:
            name: name of the model.
            description: text in Markdown.

        Returns:
            The new model, without versions.
        """
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
        """Register a version, as `MlflowClient.create_model_version` does.

        Args:
            name: name of the registered model.
            source: URI of the logged model.
            run_id: id of the run that logged it.
            tags: tags of the version.
            description: text in Markdown.
            model_id: id of the logged model.

        Returns:
            The new version.
        """
        return super().create_model_version(
            name,
            source,
            run_id,
            tags=_redacted(tags or {}),
            description=description and redact(description),
            model_id=model_id,
        )

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag of a registered model, as `MlflowClient.set_registered_model_tag` does.

        Args:
            name: name of the registered model.
            key: name of the tag.
            value: value of the tag.
        """
        super().set_registered_model_tag(name, key, redact(value))


def equals(key: str, value: str) -> str:
    """Make an equality condition in MLflow's search language, for a value with any characters.

    The language has no escapes: characters that it cannot quote become wildcards, so that other values may match too.

    Args:
        key: key, such as `name` or ``tags.`sweep.name` ``.
        value: value to match.

    Returns:
        The condition.
    """
    if not UNQUOTABLE.search(value):
        return f"{key} = '{value}'"
    return f"{key} LIKE '{UNQUOTABLE.sub('_', value)}'"


@contextmanager
def redacted_file(path: Path) -> Iterator[Path]:
    """Provide a file without secrets: the file itself or, for a text with secrets, a redacted copy of that name."""
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
    """Iterate over all results of an MLflow search, page by page."""
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
