"""Registered models and their versions, in any MLflow store, from any machine.

with open_registry() as registry:
    version = registry.find("mrqm@champion")

A store is shared: other programs may write any names, tags and versions, and no command may fail because of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from mrqm.config import TrackingConfig
from mrqm.errors import UserError
from mrqm.redaction import redact
from pipelines.registry.model_version import REGISTERED_AS, Version, printable
from pipelines.tracking.client import Client, equals
from pipelines.tracking.errors import explain
from pipelines.tracking.store import first_contact, resolve_uri, sqlite_path

SHOWN = 10
"""Maximum number of names, or of versions, newest first, in an error message."""
RUN = "runs:/"


class RegistryError(UserError):
    """A model, version or alias that does not exist, or a request that the registry refuses."""


@contextmanager
def open_registry(settings: TrackingConfig | None = None) -> Iterator[Registry]:
    """Open the registry at MLFLOW_TRACKING_URI or, without it, at the URI of the settings.

    Args:
        settings: `tracking` section of a configuration; None for the default store in the working directory.

    Raises:
        TrackingError: the store cannot be used.
        RegistryError: there is no database, or MLflow refused a request while the context was open.
    """
    uri = resolve_uri(settings or TrackingConfig())
    database = sqlite_path(uri)
    if database and not database.is_file():
        raise RegistryError(
            f"{database}: no such database; set the store that has the models: MLFLOW_TRACKING_URI or tracking.uri=URI"
        )
    with first_contact(uri):
        client = Client(uri)
        next(client.models(), None)
    mlflow.set_tracking_uri(uri)
    try:
        yield Registry(client, uri)
    except MlflowException as error:
        raise RegistryError(f"MLflow at {redact(uri)}: {explain(error)[0]}") from error


class Registry:
    """Registered models of a store.

    Attributes:
        client: MLflow client.
        uri: URI of the store.
    """

    def __init__(self, client: Client, uri: str) -> None:
        self.client, self.uri = client, uri

    def models(self) -> dict[str, list[Version]]:
        """List all registered models, in alphabetical order, with their versions, the newest first."""
        models = {model.name: model for model in self.client.models()}
        found: dict[str, list[ModelVersion]] = {name: [] for name in sorted(models)}
        for made in self.client.versions():
            if made.name in found:  # else it is a prompt, which MLflow stores as a model of another kind
                found[made.name].append(made)
        return {name: _versions(models[name], made) for name, made in found.items()}

    def model(self, name: str) -> RegisteredModel:
        """Find a registered model.

        Raises:
            RegistryError: there is no model of that name; the message lists the models.
        """
        found = self.client.model(name)
        if found is None:
            raise RegistryError(self._no_model(name))
        return found

    def versions(self, name: str) -> list[Version]:
        """List the versions of a model, the newest first.

        Raises:
            RegistryError: there is no model of that name.
        """
        made = [made for made in self.client.versions(equals("name", name)) if made.name == name]
        return _versions(self.model(name), made)

    def find(self, word: str) -> Version:
        """Find a version.

        Args:
            word: NAME/VERSION, NAME@ALIAS, or NAME for its latest version, each with or without the prefix `models:/`;
                runs:/RUN_ID for the version that a run registered, also after the model was renamed.

        Raises:
            RegistryError: there is no such version; the message lists those that exist.
        """
        if word.startswith(RUN):
            return self._of_run(word.removeprefix(RUN).partition("/")[0])
        first: RegistryError | None = None
        readings = list(_readings(word.removeprefix("models:/")))
        for name, mark, which in readings:
            if name and self.client.model(name) is not None:
                try:
                    return _choose(name, self.versions(name), mark, which)
                except RegistryError as error:
                    first = first or error
        if first:
            raise first
        name, mark, _ = readings[0]
        if not name or name.count("/") + name.count("@"):
            form = "expected NAME/VERSION, NAME@ALIAS, NAME or runs:/RUN_ID, such as mrqm/3 or mrqm@champion"
            raise RegistryError(f"{word}: {form}; {self._no_model(name)}")
        raise RegistryError(self._no_model(name))

    def run(self, version: Version) -> Run:
        """Read the run that trained a version.

        Raises:
            RegistryError: it has no run, or MLflow does not provide it, for instance because it is deleted.
        """
        if version.run_id is None:
            raise RegistryError("none")
        try:
            run = self.client.get_run(version.run_id)
        except MlflowException as error:
            gone = error.error_code == "RESOURCE_DOES_NOT_EXIST"
            raise RegistryError("it is deleted" if gone else explain(error)[0]) from error
        if run.info.lifecycle_stage != "active":
            raise RegistryError("it is deleted")
        return run

    def _of_run(self, run_id: str) -> Version:
        for made in self.client.versions(equals("run_id", run_id)):
            if made.run_id == run_id:
                return next(found for found in self.versions(made.name) if found.number == str(made.version))
        raise RegistryError(f"run {run_id} has registered no model at {redact(self.uri)}")

    def _no_model(self, name: str) -> str:
        names = [printable(name) for name in sorted(model.name for model in self.client.models())]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        said = f"no model {name!r} at {redact(self.uri)}; registered are: {', '.join(names[:SHOWN]) or 'none'}{more}"
        renamed = {printable(made.name) for made in self.client.versions(equals(f"tags.`{REGISTERED_AS}`", name))}
        if not renamed:
            return said
        return f"{said}; the model registered by that name is called {', '.join(sorted(renamed))} now"


def _readings(word: str) -> Iterator[tuple[str, str, str]]:
    """Iterate over the ways to split a word into name, separator and version: names may contain `@` and `/`."""
    for mark in "/@":
        name, found, which = word.rpartition(mark)
        if found and which:
            yield name, mark, which
    yield word, "", ""


def _choose(name: str, versions: list[Version], mark: str, which: str) -> Version:
    """Return the version with a number or an alias, or the latest; raise `RegistryError` if there is none."""
    if not versions:
        raise RegistryError(f"{name} has no versions")
    if mark == "@":
        found = next((version for version in versions if which in version.aliases), None)
        there = [f"{printable(other)} (version {version.number})" for version in versions for other in version.aliases]
        missing = f"no alias {which!r}; it has {', '.join(there) or 'none'}"
    else:
        latest = not mark or which.lower() == "latest"
        found = versions[0] if latest else next((version for version in versions if version.number == which), None)
        numbers = ", ".join(version.number for version in versions[:SHOWN])
        missing = f"no version {which}; it has {numbers}{', …' if len(versions) > SHOWN else ''}"
    if found is None:
        raise RegistryError(f"{name} has {missing}")
    return found


def _versions(model: RegisteredModel, made: list[ModelVersion]) -> list[Version]:
    aliases: dict[str, list[str]] = {}
    for alias, number in sorted(model.aliases.items()):
        aliases.setdefault(str(number), []).append(alias)
    versions = [_version(one, tuple(aliases.get(str(one.version), ()))) for one in made]
    return sorted(versions, key=lambda version: int(version.number), reverse=True)


def _version(made: ModelVersion, aliases: tuple[str, ...]) -> Version:
    tags: Mapping[str, str] = {key: value or "" for key, value in made.tags.items()}
    created = datetime.fromtimestamp((made.creation_timestamp or 0) / 1000)
    return Version(made.name, str(made.version), aliases, created, made.run_id or None, made.source or "", tags)
