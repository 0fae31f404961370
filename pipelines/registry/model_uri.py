"""Resolution of a command's MODEL argument: a checkpoint's folder or URI, or a model in MLflow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mrqm.checkpoint.files import CONFIG, METRICS, WEIGHTS
from mrqm.checkpoint.lookup import LAST, find_checkpoint
from mrqm.config import Section, TrackingConfig, load_config, make_config
from mrqm.errors import UserError
from mrqm.redaction import holds_secret, redact
from pipelines.storage.checkpoints import CheckpointStore
from pipelines.storage.filesystem import MLFLOW_SCHEMES, Storage, is_uri, open_storage

LOGGED = re.compile(r"runs:/.+/|models:/m-[0-9a-f]{32}$")
"""URIs of logged models, which MLflow resolves without the registry."""


class ModelSourceError(UserError):
    """A model that cannot be fetched."""


@contextmanager
def checkpoint_folder(model: str, tracking: TrackingConfig | None = None) -> Iterator[Path]:
    """Provide the checkpoint of a model while the context is open.

    Args:
        model: a checkpoint's folder or URI, such as s3://bucket/runs/demo/epoch_0012; a run's folder or URI, for its
            best checkpoint, or with `/last` for its newest; `models:/NAME/VERSION`, `models:/NAME@ALIAS`,
            `models:/NAME` or `runs:/RUN_ID/model`.
        tracking: settings that name the MLflow store of the latter; None for the default store in the working
            directory. MLFLOW_TRACKING_URI takes precedence over both.

    Yields:
        Folder of the checkpoint on this machine.

    Raises:
        CheckpointError: there is no checkpoint; the message lists those that exist.
        ModelSourceError: the store or MLflow does not have the model, or mrqm did not register it.
        StorageError: the URI cannot be used.
        TrackingError: the MLflow store cannot be used.
    """
    if holds_secret(model):
        raise ModelSourceError(
            f"{redact(model)}: has a password or token, which would be displayed and stored; set it in the "
            f"environment: {Section.place_of_secrets}"
        )
    if model.startswith(MLFLOW_SCHEMES):
        with TemporaryDirectory() as folder:
            yield _download(model, tracking, Path(folder))
    elif is_uri(model):
        with TemporaryDirectory() as folder:
            _fetch(model, Path(folder))
            yield Path(folder)
    else:
        yield find_checkpoint(model)


def describe_model(model: str) -> str:
    """Describe the model of `checkpoint_folder`: for a local run, the path of the chosen checkpoint."""
    return model if model.startswith(MLFLOW_SCHEMES) or is_uri(model) else str(find_checkpoint(model))


def read_tracking(config: Path | None, overrides: Sequence[str]) -> TrackingConfig:
    """Read the `tracking` section of a file or, without one, of the defaults, with overrides.

    Args:
        config: YAML file; None for the defaults.
        overrides: words `key=value`.

    Returns:
        The section.

    Raises:
        ConfigError: the file or an override cannot be used.
    """
    if config is not None:
        return load_config(config, overrides).tracking
    own = [override for override in overrides if override.startswith("tracking.")]  # others concern the checkpoint
    return make_config({}, own, source="the command line").tracking


def _fetch(model: str, folder: Path) -> None:
    """Download the files of a checkpoint that evaluation and prediction need."""
    try:
        storage, checkpoint = _find_at_uri(model.rstrip("/"))
        for file in (WEIGHTS, CONFIG, METRICS):
            content = storage.read(f"{checkpoint}{file}")
            if content is None:
                raise ModelSourceError(f"{model}: not a complete checkpoint: {checkpoint} has no {file}")
            (folder / file).write_bytes(content)
    except OSError as error:
        raise ModelSourceError(f"{model}: cannot be read: {error}; set AWS_ENDPOINT_URL and credentials") from error


def _find_at_uri(model: str) -> tuple[Storage, str]:
    """Find the storage of a checkpoint, or of a run, and the prefix of the checkpoint's files in it."""
    base, _, name = model.rpartition("/")
    storage = open_storage(base, name)
    if {CONFIG, WEIGHTS} <= set(storage.list_files()):
        return storage, ""
    if names := (store := CheckpointStore(storage, keep=1)).newest_first():
        return storage, f"{store.best() or names[0]}/"
    run = open_storage(*base.rsplit("/", 1))
    names = CheckpointStore(run, keep=1).newest_first()
    if names and name == LAST:
        return run, f"{names[0]}/"
    known = f"{base} has {', '.join(names)}" if names else "name one such as epoch_0012, or its run's folder"
    raise ModelSourceError(f"{model}: not a checkpoint: it has no {WEIGHTS}; {known}")


def _download(model: str, tracking: TrackingConfig | None, folder: Path) -> Path:
    from pipelines.registry.client import RegistryError, open_registry
    from pipelines.registry.model_files import fetch_checkpoint, place_of

    try:
        with open_registry(tracking) as registry:
            place = model if LOGGED.match(model) else place_of(registry, registry.find(model))
            return fetch_checkpoint(place, folder)
    except RegistryError as error:
        raise ModelSourceError(f"{model}: {error}") from error
