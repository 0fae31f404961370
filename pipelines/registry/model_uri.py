"""The model that a command's word stands for: a checkpoint's folder, here or at a URI, or a model in MLflow."""

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
from pipelines.storage.filesystem import Storage, is_uri, open_storage

SCHEMES = ("models:/", "runs:/")
LOGGED = re.compile(r"runs:/.+/|models:/m-[0-9a-f]{32}$")
"""Models that MLflow finds without the registry: of a run, and one that was logged and not registered."""


class ModelSourceError(UserError):
    """A model that cannot be fetched."""


@contextmanager
def checkpoint_folder(model: str, tracking: TrackingConfig | None = None) -> Iterator[Path]:
    """The checkpoint of a model, for as long as the context is open.

    Args:
        model: a folder, or its URI such as s3://bucket/runs/demo/epoch_0012; a run's folder or its URI, which stands
            for the run's best checkpoint, or with `/last` for its newest; `models:/NAME/VERSION`, `models:/NAME@ALIAS`,
            `models:/NAME` or `runs:/RUN_ID/model`.
        tracking: settings that name the MLflow store of the latter; None takes the default store of this folder.
            MLFLOW_TRACKING_URI wins over both.

    Raises:
        CheckpointError: there is no checkpoint; the message says which there are.
        ModelSourceError: the store or MLflow does not have the model, or it is not one of this project's.
        StorageError: the URI cannot be used.
        TrackingError: the MLflow store cannot be used.
    """
    if holds_secret(model):
        raise ModelSourceError(
            f"{redact(model)}: holds a password or token, which would be shown and kept; leave it to the environment: "
            f"{Section.place_of_secrets}"
        )
    if model.startswith(SCHEMES):
        with TemporaryDirectory() as folder:
            yield _download(model, tracking, Path(folder))
    elif is_uri(model):
        with TemporaryDirectory() as folder:
            _fetch(model, Path(folder))
            yield Path(folder)
    else:
        yield find_checkpoint(model)


def describe_model(model: str) -> str:
    """The model of `checkpoint_folder` for people: of a run on this machine, the checkpoint that it stands for."""
    return model if model.startswith(SCHEMES) or is_uri(model) else str(find_checkpoint(model))


def read_tracking(config: Path | None, overrides: Sequence[str]) -> TrackingConfig:
    """The tracking section of a file or, without one, of the defaults, with overrides.

    Raises:
        ConfigError: the file or an override cannot be used.
    """
    if config is not None:
        return load_config(config, overrides).tracking
    own = [override for override in overrides if override.startswith("tracking.")]  # others may be of a checkpoint only
    return make_config({}, own, source="the command line").tracking


def _fetch(model: str, folder: Path) -> None:
    """Copy what evaluating and predicting need of a checkpoint."""
    try:
        storage, checkpoint = _find_at_uri(model.rstrip("/"))
        for file in (WEIGHTS, CONFIG, METRICS):
            content = storage.read(f"{checkpoint}{file}")
            if content is None:
                raise ModelSourceError(f"{model}: not a whole checkpoint: {checkpoint} has no {file}")
            (folder / file).write_bytes(content)
    except OSError as error:
        raise ModelSourceError(f"{model}: cannot be read: {error}; set AWS_ENDPOINT_URL and credentials") from error


def _find_at_uri(model: str) -> tuple[Storage, str]:
    """The storage of a checkpoint, or of a run, and the beginning of its files' paths there."""
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
