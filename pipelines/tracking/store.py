"""The MLflow store of a configuration: its URI, and checks that it can be used."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import sqlalchemy
from filelock import FileLock
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from mrqm.config import TrackingConfig
from mrqm.redaction import redact
from pipelines.tracking.client import Client
from pipelines.tracking.errors import TrackingError, UnreachableError, explain, is_away
from pipelines.tracking.mlflow_names import DATABASE_ENGINES

URI = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
DEFAULT_EXPERIMENT = "mrqm"
logger = logging.getLogger(__name__)
HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/|$)")
FIRST_CONTACT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


def resolve_uri(settings: TrackingConfig) -> str:
    """Return the tracking URI: MLFLOW_TRACKING_URI if set, else the configuration's; SQLite files by absolute path.

    A server's credentials in MLFLOW_TRACKING_URI are moved to MLflow's variables for them, since MLflow prints the URI.

    Raises:
        TrackingError: the URI is an address without a scheme.
    """
    uri = _without_credentials(os.environ.get(URI, "")) or settings.uri
    if HOST_AND_PORT.match(uri):
        where = URI if os.environ.get(URI) else "tracking.uri"
        raise TrackingError(f"{where}={uri}: has no scheme, and MLflow would use it as a folder; write http://{uri}")
    path = sqlite_path(uri)
    return uri.replace(f":///{path}", f":///{path.resolve()}", 1) if path else uri


def resolve_experiment(settings: TrackingConfig) -> str:
    """Return the name of the experiment: the configuration's, else MLFLOW_EXPERIMENT_NAME, else the default.

    A variable that differs from the configuration is ignored with one warning.
    """
    named = os.environ.get(EXPERIMENT)
    if settings.experiment is None:
        return named or DEFAULT_EXPERIMENT
    if named and named != settings.experiment:
        _warn_once(f"{EXPERIMENT}={named} is ignored: the configuration sets tracking.experiment={settings.experiment}")
    return settings.experiment


@cache
def _warn_once(text: str) -> None:
    logger.warning("%s", text)


@contextmanager
def first_contact(uri: str) -> Iterator[None]:
    """Use short time limits for the first requests to a store, and explain its errors.

    Raises:
        TrackingError: the store cannot be used; `UnreachableError` if that may be temporary.
    """
    before = {name: os.environ.get(name) for name in FIRST_CONTACT}
    os.environ.update(FIRST_CONTACT)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # one line for each of fifty migrations of a new database
    try:
        with _alone_with(sqlite_path(uri)):
            _connect_database(uri)
            yield
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        reason, remedy = explain(error)
        kind = UnreachableError if is_away(error) else TrackingError
        raise kind(f"MLflow at {redact(uri)} cannot be used: {reason}; {remedy}") from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def find_experiment(client: Client, name: str, uri: str) -> str:
    """Find an experiment, or create it.

    Args:
        client: client of the MLflow store.
        name: name of the experiment.
        uri: URI of the store.

    Returns:
        Id of the experiment.

    Raises:
        TrackingError: the experiment is deleted.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        path = sqlite_path(uri)
        # A file store keeps artifacts beside its database, whatever the working directory.
        return client.create_experiment(name, (path.parent / "mlruns").absolute().as_uri() if path else None)
    require_active(experiment, uri)
    return experiment.experiment_id


def require_experiment(settings: TrackingConfig) -> None:
    """Check that a run can be created in the experiment, before anything starts.

    A missing SQLite file is created only when a run begins, so that a refused command leaves none.

    Raises:
        TrackingError: the store cannot be used.
    """
    uri = resolve_uri(settings)
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        _require_place(uri, database)
        return
    with first_contact(uri):
        find_experiment(Client(uri), resolve_experiment(settings), uri)


def _require_place(uri: str, database: Path) -> None:
    """Check that a SQLite file can be created, without creating it."""
    folder = next(parent for parent in database.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise TrackingError(
            f"MLflow at {redact(uri)} cannot be used: {folder} is not a writable folder; set tracking.uri to another "
            "store"
        )


def require_active(experiment: Experiment, uri: str) -> None:
    """Check that an experiment is not deleted: no run can be created in it, nor another experiment of its name.

    Args:
        experiment: experiment of MLflow.
        uri: URI of the store.

    Raises:
        TrackingError: the experiment is deleted.
    """
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"experiment {experiment.name!r} at {redact(uri)} is deleted; restore it with `mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}` or set tracking.experiment to another name"
        )


def sqlite_path(uri: str) -> Path | None:
    """Return the database file of a SQLite URI; None for other URIs."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def _without_credentials(uri: str) -> str:
    """Remove user and password from MLFLOW_TRACKING_URI and set MLflow's variables for them."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return uri
    user, _, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(name), unquote(password)
    os.environ[URI] = urlunsplit(parts._replace(netloc=host))
    return os.environ[URI]


@contextmanager
def _alone_with(database: Path | None) -> Iterator[None]:
    """Lock a SQLite file against other commands of this machine, which must not create its tables at the same time."""
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(f".{database.name}.lock")):
        yield


def _connect_database(uri: str) -> None:
    """Connect to a database once, since MLflow itself would retry for minutes."""
    if uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES:
        engine = sqlalchemy.create_engine(uri)
        engine.connect().close()
        engine.dispose()
