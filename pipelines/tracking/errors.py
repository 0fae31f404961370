"""Explanations of MLflow's errors: one sentence for each, with the remedy."""

from __future__ import annotations

import os
import socket
import ssl
from http import HTTPStatus

from mlflow.exceptions import MlflowException, RestException
from sqlalchemy.exc import SQLAlchemyError

from mrqm.errors import UserError
from mrqm.redaction import redact

LONGEST = 300
"""Maximum length of the message of an unknown error, in characters."""
USE_ANOTHER = "set tracking.uri or MLFLOW_TRACKING_URI to a store that answers, such as sqlite:///mlflow.db"

GIVE_CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
TRUST_IT = "set the file of its certificate or of its CA: export MLFLOW_TRACKING_SERVER_CERT_PATH=FILE.pem"


class TrackingError(UserError):
    """An MLflow store that cannot be used."""


class UnreachableError(TrackingError):
    """An MLflow store that does not answer at present."""


STORE_ERRORS = (TrackingError, MlflowException, SQLAlchemyError, OSError)
"""Errors of a store or of the connection to it, none of which may end a computation."""


def explain(error: BaseException) -> tuple[str, str]:
    """Explain an error: the reason why a store cannot be used, and the remedy."""
    match _root(error):
        case ConnectionRefusedError():
            return "nothing listens there", f"start the server, or {USE_ANOTHER}"
        case ssl.SSLCertVerificationError(verify_message=reason):
            return f"its certificate is not trusted ({reason})", TRUST_IT
        case ssl.SSLError():
            return "the TLS handshake failed", "correct https:// or http:// in the address"
        case ConnectionError():
            return "the connection broke", f"check the server, or {USE_ANOTHER}"
        case socket.gaierror():
            return "no host has that name", f"correct it, or {USE_ANOTHER}"
        case TimeoutError():
            return "it does not answer in time", f"check the server, or {USE_ANOTHER}"
        case ModuleNotFoundError(name=name):
            return f"the Python package {name} is missing", "install it: this kind of database needs it"
    if not isinstance(error, MlflowException):
        return _first_line(str(error)), USE_ANOTHER
    return _explain_answer(error)


def is_away(error: BaseException) -> bool:
    """Return true for a store that does not answer at present, false for one that refuses the request."""
    if isinstance(_root(error), ConnectionError | TimeoutError):
        return True
    return isinstance(error, MlflowException) and error.error_code in ("TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED")


def is_refusal(error: BaseException) -> bool:
    """Tell an answer that will be the same until somebody acts, such as that a run is deleted, from one that passes."""
    if not isinstance(error, MlflowException):
        return False
    status = error.get_http_status_code()
    return 400 <= status < 500 and status not in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


def _explain_answer(error: MlflowException) -> tuple[str, str]:
    """Explain the answer of a server, which may be no MLflow server."""
    match error.get_http_status_code():
        case 401:
            known = _has_credentials()
            return (
                "it does not accept these credentials" if known else "it asks for a user and a password",
                GIVE_CREDENTIALS,
            )
        case 403 if "Host" in error.message:
            return "it refuses this host name", "start it with --allowed-hosts HOST, or use an address that it allows"
        case 403 if not _has_credentials():  # as gateways answer that ask for a token
            return "it permits this to nobody without credentials", GIVE_CREDENTIALS
        case 403:
            return "it does not permit this", "ask its administrator for edit permission on experiment and model"
    if _is_foreign(error):
        return "the server there is no MLflow server", f"correct the address, or {USE_ANOTHER}"
    return _first_line(error.message), USE_ANOTHER


def _has_credentials() -> bool:
    return any(os.environ.get(name) for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN"))


def _is_foreign(error: MlflowException) -> bool:
    """Return true for an answer that is not from MLflow: no JSON, or without its error code."""
    if isinstance(error, RestException):
        return "error_code" not in error.json
    return error.message.startswith("API request to endpoint")


def _root(error: BaseException) -> BaseException:
    """Return the original exception of a chain."""
    while cause := error.__cause__ or error.__context__ or _carried(error):
        error = cause
    return error


def _carried(error: BaseException) -> BaseException | None:
    """Return the exception that urllib3 passes as an argument after its last retry."""
    return next((value for value in error.args if isinstance(value, BaseException)), None)


def _first_line(text: str) -> str:
    line = redact(text.strip().partition("\n")[0])
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
