"""The MLflow store of a configuration: its address, and the checks that it can be used."""

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
    """The tracking URI: MLFLOW_TRACKING_URI if set, else the configuration's; SQLite files by absolute path.

    Raises:
        TrackingError: it is an address without its scheme.

    A server's credentials in MLFLOW_TRACKING_URI move to the variables that MLflow has for them: it would print them.
    """
    uri = _without_credentials(os.environ.get(URI, "")) or settings.uri
    if HOST_AND_PORT.match(uri):
        where = URI if os.environ.get(URI) else "tracking.uri"
        raise TrackingError(f"{where}={uri}: MLflow would take that for a folder; write http://{uri}")
    path = sqlite_path(uri)
    return uri.replace(f":///{path}", f":///{path.resolve()}", 1) if path else uri


def resolve_experiment(settings: TrackingConfig) -> str:
    """The name of the experiment: the configuration's if it has one, else MLFLOW_EXPERIMENT_NAME, as for MLflow itself.

    A variable that says something else than the configuration is passed over, which is told once.
    """
    named = os.environ.get(EXPERIMENT)
    if settings.experiment is None:
        return named or DEFAULT_EXPERIMENT
    if named and named != settings.experiment:
        _warn_once(
            f"{EXPERIMENT}={named} is passed over: the configuration says tracking.experiment={settings.experiment}"
        )
    return settings.experiment


@cache
def _warn_once(text: str) -> None:
    logger.warning("%s", text)


@contextmanager
def first_contact(uri: str) -> Iterator[None]:
    """Fail within seconds, and clearly, if nothing usable is at a URI; later requests are retried patiently.

    Raises:
        TrackingError: the store cannot be used; `UnreachableError` if that may pass.
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
    """Id of the experiment of that name, made if there is none; `TrackingError` if it is deleted."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        path = sqlite_path(uri)
        # A file store keeps artifacts beside its database, wherever the command is run.
        return client.create_experiment(name, (path.parent / "mlruns").absolute().as_uri() if path else None)
    require_active(experiment, uri)
    return experiment.experiment_id


def require_experiment(settings: TrackingConfig) -> None:
    """Find out whether a run can be made in the experiment, before anything starts.

    A SQLite file that is not there yet is made when a run begins: a command that is refused leaves none.

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
    """Find out whether a SQLite file can be made, and make nothing."""
    folder = next(parent for parent in database.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise TrackingError(
            f"MLflow at {redact(uri)} cannot be used: {folder} is no folder that can be written; set tracking.uri to "
            "another place"
        )


def require_active(experiment: Experiment, uri: str) -> None:
    """`TrackingError` if an experiment is deleted: no run can be made in it, and no other of its name."""
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"experiment {experiment.name!r} at {redact(uri)} is deleted; restore it with `mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}` or set tracking.experiment to another name"
        )


def sqlite_path(uri: str) -> Path | None:
    """The database file of a SQLite URI."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def _without_credentials(uri: str) -> str:
    """MLFLOW_TRACKING_URI without the user and password of a server, which move to variables of their own."""
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
    """Keep other commands of this machine from a SQLite file meanwhile: two that make its tables at once spoil them."""
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(f".{database.name}.lock")):
        yield


def _connect_database(uri: str) -> None:
    """Connect to a database once: MLflow itself would try for minutes."""
    if uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES:
        engine = sqlalchemy.create_engine(uri)
        engine.connect().close()
        engine.dispose()
