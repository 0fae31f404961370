"""The model that a command's word stands for: a checkpoint's folder, or a model in MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

SCHEME = "models:/"


class ModelSourceError(ValueError):
    """A model that cannot be fetched."""


@contextmanager
def checkpoint_folder(model: str) -> Iterator[Path]:
    """The checkpoint of a model, for as long as the context is open.

    Args:
        model: a folder, `models:/NAME/VERSION` or `models:/NAME@ALIAS`, the latter at MLFLOW_TRACKING_URI or, without
            it, in the default store of this folder.

    Raises:
        ModelSourceError: MLflow does not have the model, or it is not one of this project's.
    """
    if not model.startswith(SCHEME):
        yield Path(model)
        return
    with TemporaryDirectory() as folder:
        yield _download(model, folder)


def _download(model: str, folder: str) -> Path:
    import mlflow
    from mlflow.exceptions import MlflowException

    from mrqm.config import TrackingConfig
    from pipelines.tracking import resolve_uri

    uri = resolve_uri(TrackingConfig())
    mlflow.set_tracking_uri(uri)
    try:
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=model, dst_path=folder)) / "artifacts/checkpoint"
    except (MlflowException, OSError) as error:
        raise ModelSourceError(
            f"{model}: MLflow at {uri} does not give it: {error}\nname a checkpoint's folder, models:/NAME/VERSION or "
            "models:/NAME@ALIAS, and set MLFLOW_TRACKING_URI to the store that has it"
        ) from error
    if not path.is_dir():
        raise ModelSourceError(f"{model}: not a model that mrqm registered: it holds no artifacts/checkpoint")
    return path
