"""A client of a Ray cluster's dashboard that needs the standard library alone and answers within seconds.

Wrong addresses, tokens and versions are found here, before Ray is imported.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from cluster.address import Address
from cluster.errors import ClusterError, UnknownJobError, UnreachableError

SECONDS = 2.5
"""Timeout of a request."""


@dataclass(frozen=True)
class Dashboard:
    """A dashboard that has answered; `open_dashboard` returns one.

    Attributes:
        address: base URL, `http://HOST:PORT`.
        token: required token; None if the cluster requires none.
        ray_version: version of Ray on the cluster.
    """

    address: str
    token: str | None
    ray_version: str

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers of every request."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def get(self, path: str, seconds: float = SECONDS) -> Any:
        """Request the JSON at a path.

        Args:
            path: path and query, beginning with a slash.
            seconds: timeout.

        Returns:
            The decoded answer.

        Raises:
            UnreachableError: nothing answers, or not yet.
            UnknownJobError: there is no such job.
            ClusterError: the token was refused, or there is no such path.
        """
        status, body = _ask(self.address, path, self.headers, seconds)
        if status == 404 and path.startswith("/api/jobs/"):
            raise UnknownJobError(
                f"{self.address} has no job {path.rpartition('/')[2]}; `mrqm jobs list` shows those it has"
            )
        if status in (401, 403):
            raise ClusterError(f"{self.address} refused the token (HTTP {status})")
        if status >= 500:  # the answer of a dashboard that is starting
            raise UnreachableError(f"{self.address}{path}: HTTP {status}: {_last_line(body)}")
        if status != 200:
            raise ClusterError(f"{self.address}{path}: HTTP {status}: {_last_line(body)}")
        return _parse(self.address, body)

    def python_version(self) -> str:
        """Return the Python version of the cluster's head."""
        return str(self.get("/api/v0/cluster_metadata")["data"]["pythonVersion"])

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes that are alive: `node_ip`, `resources_total` and other keys."""
        nodes = self.get("/api/v0/nodes?detail=1")["data"]["result"]["result"]
        return [node for node in nodes if node["state"] == "ALIVE"]

    def job(self, submission_id: str) -> dict[str, Any]:
        """Return a job: `status`, `message`, `driver_exit_code` and other keys."""
        return dict(self.get(f"/api/jobs/{submission_id}"))


def open_dashboard(address: Address) -> Dashboard:
    """Connect to the dashboard at an address; the token is sent only if one is required.

    Raises:
        UnreachableError: nothing answers.
        ClusterError: something else than Ray answers, or the token is missing or wrong.
    """
    url, token = address.url, None
    status, body = _ask(url, "/api/version", {})
    if status == 401:
        token = address.find_token()
        if token is None:
            raise ClusterError(
                f"{url} requires a token, and none was found; put the cluster's (`ray get-auth-token` on its head) "
                "into ~/.ray/auth_token, or name its file: export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE"
            )
        status, body = _ask(url, "/api/version", {"Authorization": f"Bearer {token.value}"})
    if status in (401, 403):
        raise ClusterError(
            f"{url} refused the token of {token.origin if token else 'no file'} (HTTP {status}): it is another "
            "cluster's; get this one's with `ray get-auth-token` on its head, and export RAY_AUTH_TOKEN_PATH=FILE"
        )
    if status != 200:
        raise ClusterError(f"{url}: HTTP {status}: no Ray dashboard; name one with --address http://HOST:8265")
    answer = _parse(url, body)
    if not isinstance(answer, dict) or "ray_version" not in answer:
        raise ClusterError(f"{url}: no Ray dashboard answers there; name one with --address http://HOST:8265")
    return Dashboard(url, token.value if token else None, answer["ray_version"])


def _ask(address: str, path: str, headers: dict[str, str], seconds: float = SECONDS) -> tuple[int, bytes]:
    """Return status and body of an answer."""
    try:
        request = urllib.request.Request(address + path, headers=headers)
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except HTTPException as error:
        raise ClusterError(
            f"{address}: no Ray dashboard: {error!r}; name one with --address http://HOST:8265"
        ) from error
    except ValueError as error:  # raised for a malformed address
        raise ClusterError(f"{address}: not an address: {error}; use --address http://HOST:8265") from error
    except OSError as error:  # URLError, TimeoutError, ConnectionError
        reason = getattr(error, "reason", error)
        raise UnreachableError(
            f"{address}: no Ray cluster answers there ({getattr(reason, 'strerror', None) or reason}); start one with "
            "`make cluster`, open the tunnel (`ray dashboard FILE`, `kubectl port-forward`), or name another with "
            "--address"
        ) from error


def _parse(address: str, body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise ClusterError(f"{address}: no Ray dashboard answers there: {_last_line(body)!r}") from error


def _last_line(body: bytes) -> str:
    lines = body.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "no text"
