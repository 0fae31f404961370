"""Which cluster is meant, and where its token is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ClusterError
from cluster.state import State, read_state

DEFAULT = "http://127.0.0.1:8265"


@dataclass(frozen=True)
class Token:
    """A secret, and where it came from."""

    value: str
    origin: str


@dataclass(frozen=True)
class Address:
    """Of a cluster's dashboard.

    Attributes:
        url: `http://HOST:PORT`.
        here: the cluster that `mrqm cluster up` started in this folder, if it is that one.
    """

    url: str
    here: State | None = None

    def find_token(self) -> Token | None:
        """RAY_AUTH_TOKEN, or what is in RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token; of the cluster here its own.

        Raises:
            ClusterError: the file that is named cannot be read.
        """
        if self.here:
            return _read(self.here.token_file)
        if value := os.environ.get("RAY_AUTH_TOKEN"):
            return Token(value.strip(), "RAY_AUTH_TOKEN")
        if name := os.environ.get("RAY_AUTH_TOKEN_PATH"):
            return _read(Path(name))
        usual = Path("~/.ray/auth_token").expanduser()
        return _read(usual) if usual.is_file() else None


def find_address(given: str | None = None) -> Address:
    """What is given, else RAY_API_SERVER_ADDRESS, RAY_ADDRESS, the cluster started in this folder, 127.0.0.1:8265.

    Raises:
        ClusterError: what is given is not the address of a dashboard.
    """
    here = read_state()
    sources = {"--address": given} | {name: os.environ.get(name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")}
    for name, value in sources.items():
        if value:
            url = _url(name, value)
            return Address(url, here if here and here.dashboard == url else None)
    return Address(here.dashboard, here) if here else Address(DEFAULT)


def _url(name: str, value: str) -> str:
    scheme, separator, rest = value.rpartition("://")
    if not separator and name != "RAY_ADDRESS" and ":" in value:
        scheme = "http"
    if scheme not in ("http", "https") or not rest:
        raise ClusterError(
            f"{name}={value}: not the address of a cluster's dashboard, such as http://HOST:8265; give that with "
            "--address or RAY_API_SERVER_ADDRESS"
        )
    if "@" in rest:
        raise ClusterError(
            f"{name}: holds a user or password, which would be shown; Ray asks for a token: set RAY_AUTH_TOKEN, or "
            "RAY_AUTH_TOKEN_PATH to its file"
        )
    return f"{scheme}://{rest.rstrip('/')}"


def _read(path: Path) -> Token:
    try:
        return Token(path.expanduser().read_text().strip(), str(path))
    except OSError as error:
        raise ClusterError(f"{path}: no token can be read there: {error.strerror}") from error
