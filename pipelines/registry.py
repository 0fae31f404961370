"""Registered models and their versions, in any MLflow store, from any machine.

with open_registry() as registry:
    version = registry.find("mrqm@champion")
    download(version, Path("champion"))
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from mrqm.checkpoint_files import CONFIG, WEIGHTS
from mrqm.config import TrackingConfig
from mrqm.data.digest import file_digest
from mrqm.redaction import redact
from pipelines.mlflow_client import Client, equals
from pipelines.mlflow_store import first_contact, resolve_uri, sqlite_path
from pipelines.model_source import checkpoint_folder
from pipelines.model_version import Version
from pipelines.runs import flatten

SHOWN = 10
"""Versions, newest first, that an error lists."""


class RegistryError(ValueError):
    """Something that the registry does not have, or refuses."""


@contextmanager
def open_registry() -> Iterator[Registry]:
    """The registry at MLFLOW_TRACKING_URI or, without it, in the default store of this folder.

    Raises:
        TrackingError: the store cannot be used.
        RegistryError: there is no database, or MLflow refused something while the context was open.
    """
    uri = resolve_uri(TrackingConfig())
    database = sqlite_path(uri)
    if database and not database.is_file():
        raise RegistryError(f"{database}: no such database; set MLFLOW_TRACKING_URI to the store that has the models")
    with first_contact(uri):
        client = Client(uri)
        next(client.models(), None)
    mlflow.set_tracking_uri(uri)
    try:
        yield Registry(client, uri)
    except MlflowException as error:
        raise RegistryError(f"MLflow at {redact(uri)}: {error}") from error


class Registry:
    """Reads the models of a store.

    Attributes:
        client: of MLflow.
        uri: of the store.
    """

    def __init__(self, client: Client, uri: str) -> None:
        self.client, self.uri = client, uri

    def names(self) -> list[str]:
        """The registered models, in alphabetical order."""
        return sorted(model.name for model in self.client.models())

    def model(self, name: str) -> RegisteredModel:
        """A registered model; `RegistryError` if there is none of that name."""
        try:
            return self.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            names = ", ".join(self.names()) or "none"
            raise RegistryError(f"no model {name!r} at {redact(self.uri)}; registered are: {names}") from error

    def versions(self, name: str) -> list[Version]:
        """The versions of a model, newest first; `RegistryError` if there is no such model."""
        aliases: dict[str, list[str]] = {}
        for alias, number in sorted(self.model(name).aliases.items()):
            aliases.setdefault(str(number), []).append(alias)
        found = self.client.versions(equals("name", name))
        versions = [_version(made, tuple(aliases.get(str(made.version), ()))) for made in found]
        return sorted(versions, key=lambda version: int(version.number), reverse=True)

    def find(self, word: str) -> Version:
        """The version that a word stands for.

        Args:
            word: NAME/VERSION, NAME@ALIAS, or NAME for its latest version; `models:/` may stand before it.

        Raises:
            RegistryError: there is none; the message says what there is.
        """
        parts = re.fullmatch(r"(?:models:/)?([^/@]+)(?:([/@])([^/@]+))?", word)
        if parts is None:
            raise RegistryError(f"{word}: expected NAME/VERSION, NAME@ALIAS or NAME, such as mrqm/3 or mrqm@champion")
        name, mark, which = parts.groups()
        versions = self.versions(name)
        if not versions:
            raise RegistryError(f"{name} has no versions")
        if mark == "@":
            return _with_alias(name, versions, which)
        chosen = versions[0].number if which is None else which
        found = next((version for version in versions if version.number == chosen), None)
        if found is None:
            numbers = ", ".join(version.number for version in versions[:SHOWN])
            raise RegistryError(
                f"{name} has no version {which}; it has {numbers}{', …' if len(versions) > SHOWN else ''}"
            )
        return found

    def run(self, version: Version) -> Run | None:
        """The run that trained a version; None if it is deleted."""
        if version.run_id is None:
            return None
        try:
            run = self.client.get_run(version.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None  # for good
        return run if run.info.lifecycle_stage == "active" else None

    def read_config(self, version: Version) -> dict[str, Any]:
        """The configuration a version was trained with, by dotted keys; `RegistryError` if the store has none."""
        with tempfile.TemporaryDirectory() as folder:
            uri = f"{version.uri}/artifacts/checkpoint/{CONFIG}"
            try:
                path = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)
            except (MlflowException, OSError) as error:
                raise RegistryError(f"{version}: the store does not give its {CONFIG}: {error}") from error
            return flatten(yaml.safe_load(Path(path).read_text()))


def download(version: Version, folder: Path) -> None:
    """Write a version's checkpoint into a new folder, whole or not at all.

    Raises:
        RegistryError: the folder is not empty, or the weights are not those that were registered.
        ModelSourceError: MLflow does not give the model.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RegistryError(f"{folder}: exists already; choose another --out or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        checkpoint_folder(version.uri) as found,
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unfinished-") as unfinished,
    ):
        copy = shutil.copytree(found, Path(unfinished) / "checkpoint")
        registered, digest = version.tags.get("checkpoint.sha256"), file_digest(copy / WEIGHTS)
        if registered not in (None, digest):
            raise RegistryError(
                f"{version}: the weights in the store are not those that were registered: SHA-256 {digest} instead of "
                f"{registered}; the stored file is damaged or was replaced"
            )
        copy.rename(folder)


def _with_alias(name: str, versions: list[Version], alias: str) -> Version:
    found = next((version for version in versions if alias in version.aliases), None)
    if found is None:
        there = [f"{other} (version {version.number})" for version in versions for other in version.aliases]
        raise RegistryError(f"{name} has no alias {alias!r}; it has {', '.join(there) or 'none'}")
    return found


def _version(made: ModelVersion, aliases: tuple[str, ...]) -> Version:
    created = datetime.fromtimestamp(made.creation_timestamp / 1000)
    return Version(made.name, str(made.version), aliases, created, made.run_id or None, dict(made.tags))
