"""The files of registered models: their checkpoints, and the configurations in them.

A version's files are downloaded from their storage location, never by a `models:/` URI, in which `@`, `?` and `#` in
names have other meanings.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow.exceptions import MlflowException

from mrqm.checkpoint.files import CONFIG, WEIGHTS
from mrqm.config.dotted import flatten
from mrqm.data.formats.digest import file_digest
from mrqm.redaction import redact
from pipelines.registry.client import Registry, RegistryError
from pipelines.registry.lineage import WEIGHTS_DIGEST
from pipelines.registry.model_version import Version

try:
    from botocore.exceptions import BotoCoreError, ClientError

    _STORES_ERRORS: tuple[type[Exception], ...] = (BotoCoreError, ClientError)
except ImportError:
    _STORES_ERRORS = ()

FETCH_ERRORS = (MlflowException, OSError, ImportError, ValueError, *_STORES_ERRORS)
"""Errors of a failed download: the store is unreachable, the scheme unknown, or permissions are missing."""


def place_of(registry: Registry, version: Version) -> str:
    """Find the folder in which MLflow keeps the files of a version.

    Args:
        registry: registry that has the version.
        version: version of a model.

    Returns:
        URI of the folder.
    """
    try:
        return str(registry.client.get_model_version_download_uri(version.name, version.number))
    except MlflowException:  # a name from an older MLflow, which this one does not allow
        return version.source


def fetch_checkpoint(place: str, folder: Path) -> Path:
    """Download a model into a folder.

    Args:
        place: URI of the model's folder.
        folder: existing folder for the download.

    Returns:
        Folder of the model's checkpoint.

    Raises:
        RegistryError: MLflow does not provide the model, or mrqm did not register it.
    """
    try:
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=place, dst_path=str(folder)))
    except FETCH_ERRORS as error:
        raise RegistryError(f"MLflow does not provide it: {redact(str(error))}") from error
    if not (path / "artifacts/checkpoint").is_dir():
        raise RegistryError("not a model that mrqm registered: it has no artifacts/checkpoint")
    return path / "artifacts/checkpoint"


def download(registry: Registry, version: Version, folder: Path) -> None:
    """Download a version's checkpoint into a new folder, completely or not at all.

    Args:
        registry: registry that has the version.
        version: version of a model.
        folder: folder to create.

    Raises:
        RegistryError: the folder is not empty, MLflow does not provide the model, or its weights are not the
            registered ones.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RegistryError(f"{folder}: already exists; choose another --out or remove it")
    with tempfile.TemporaryDirectory(prefix="mrqm-") as temporary:
        try:
            found = fetch_checkpoint(place_of(registry, version), Path(temporary))
        except RegistryError as error:
            raise RegistryError(f"{version}: {error}") from error
        _require_registered(version, found / WEIGHTS)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unfinished-") as unfinished:
            shutil.copytree(found, Path(unfinished) / "checkpoint").rename(folder)


def read_config(registry: Registry, version: Version) -> dict[str, Any]:
    """Read the training configuration of a version.

    Args:
        registry: registry that has the version.
        version: version of a model.

    Returns:
        Values by dotted key.

    Raises:
        RegistryError: the store has no configuration, or it is not mrqm's.
    """
    with tempfile.TemporaryDirectory(prefix="mrqm-") as folder:
        uri = f"{place_of(registry, version)}/artifacts/checkpoint/{CONFIG}"
        try:
            path = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (*FETCH_ERRORS, yaml.YAMLError) as error:
            reason = redact(str(error)).partition("\n")[0]
            raise RegistryError(f"{version}: the store does not provide its {CONFIG}: {reason}") from error
    if not isinstance(values, Mapping):
        raise RegistryError(f"{version}: its {CONFIG} is not a configuration of mrqm: it has no sections")
    return flatten(values)


def _require_registered(version: Version, weights: Path) -> None:
    registered = version.tags.get(WEIGHTS_DIGEST)
    digest = file_digest(weights) if weights.is_file() else "of no file"
    if registered not in (None, digest):
        raise RegistryError(
            f"{version}: the weights in the store are not the registered ones: SHA-256 {digest} instead of "
            f"{registered}; the stored file is damaged or was replaced"
        )
