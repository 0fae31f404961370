"""The address of the cluster that a command talks to, and its token."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ClusterError
from cluster.state import State, read_state

DEFAULT = "http://127.0.0.1:8265"


@dataclass(frozen=True)
class Token:
    """A cluster's token, and the variable or file that it was read from."""

    value: str
    origin: str


@dataclass(frozen=True)
class Address:
    """The address of a cluster's dashboard.

    Attributes:
        url: base URL, `http://HOST:PORT`.
        here: state of the cluster that `mrqm cluster up` started in this folder, if the address is that cluster's.
    """

    url: str
    here: State | None = None

    def find_token(self) -> Token | None:
        """Find the cluster's token.

        A cluster that was started in this folder has its own token file. For any other the token is RAY_AUTH_TOKEN,
        else the content of the file RAY_AUTH_TOKEN_PATH, else of ~/.ray/auth_token.

        Returns:
            The token; None if there is none.

        Raises:
            ClusterError: the token's file cannot be read.
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
    """Find the cluster that a command talks to.

    Args:
        given: address from the command line. Without it the first of these counts: RAY_API_SERVER_ADDRESS,
            RAY_ADDRESS, the cluster started in this folder, 127.0.0.1:8265.

    Raises:
        ClusterError: the address is not that of a dashboard.
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
            f"{name}: contains a user or password, which would be shown; Ray requires a token: set RAY_AUTH_TOKEN, or "
            "RAY_AUTH_TOKEN_PATH to its file"
        )
    return f"{scheme}://{rest.rstrip('/')}"


def _read(path: Path) -> Token:
    try:
        return Token(path.expanduser().read_text().strip(), str(path))
    except OSError as error:
        raise ClusterError(f"{path}: the token cannot be read: {error.strerror}") from error
