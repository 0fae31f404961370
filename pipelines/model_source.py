"""The model that a command's word stands for: a checkpoint's folder, here or at a URI, or a model in MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mrqm.checkpoint_files import CONFIG, METRICS, WEIGHTS
from pipelines.storage import is_uri, open_storage

SCHEMES = ("models:/", "runs:/")


class ModelSourceError(ValueError):
    """A model that cannot be fetched."""


@contextmanager
def checkpoint_folder(model: str) -> Iterator[Path]:
    """The checkpoint of a model, for as long as the context is open.

    Args:
        model: a folder, or its URI such as s3://bucket/runs/demo/epoch_0012, `models:/NAME/VERSION`,
            `models:/NAME@ALIAS` or `runs:/RUN_ID/model`, the latter three at MLFLOW_TRACKING_URI or, without it, in the
            default store of this folder.

    Raises:
        ModelSourceError: the store or MLflow does not have the model, or it is not one of this project's.
        StorageError: the URI cannot be used.
    """
    if model.startswith(SCHEMES):
        with TemporaryDirectory() as folder:
            yield _download(model, folder)
    elif is_uri(model):
        with TemporaryDirectory() as folder:
            _fetch(model, Path(folder))
            yield Path(folder)
    else:
        yield Path(model)


def _fetch(model: str, folder: Path) -> None:
    """Copy what evaluating and predicting need of a checkpoint."""
    base, _, name = model.rstrip("/").rpartition("/")
    storage = open_storage(base, name)
    for file in (WEIGHTS, CONFIG, METRICS):
        try:
            content = storage.read(file)
        except OSError as error:
            raise ModelSourceError(f"{model}: cannot be read: {error}; set AWS_ENDPOINT_URL and credentials") from error
        if content is None:
            raise ModelSourceError(f"{model}: not a checkpoint: it has no {file}; name one such as epoch_0012")
        (folder / file).write_bytes(content)


def _download(model: str, folder: str) -> Path:
    import mlflow
    from mlflow.exceptions import MlflowException

    from mrqm.config import TrackingConfig
    from mrqm.redaction import redact
    from pipelines.mlflow_store import resolve_uri

    uri = resolve_uri(TrackingConfig())
    mlflow.set_tracking_uri(uri)
    try:
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=model, dst_path=folder)) / "artifacts/checkpoint"
    except (MlflowException, OSError) as error:
        raise ModelSourceError(
            f"{model}: MLflow at {redact(uri)} does not give it: {error}\nname a checkpoint's folder, "
            "models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN_ID/model, and set MLFLOW_TRACKING_URI to its store"
        ) from error
    if not path.is_dir():
        raise ModelSourceError(f"{model}: not a model that mrqm registered: it holds no artifacts/checkpoint")
    return path
