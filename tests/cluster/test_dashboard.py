"""Addresses that do not answer as a cluster should are told apart, by the command line, before Ray is imported."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from ..conftest import ANY_PATH

ROOT = Path(__file__).parents[2]


def answer(server: HTTPServer, body: str, status: int = 200) -> str:
    """Make a server answer everything with a body; return its address."""
    server.expect_request(ANY_PATH).respond_with_data(body, status)
    return server.url_for("").rstrip("/")


@contextmanager
def silence() -> Iterator[str]:
    """A port that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def nothing() -> Iterator[str]:
    """A port that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def submit(folder: Path, *options: str, **variables: str) -> str:
    """The message of a submission that is refused."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(folder), **variables}
    code = "import sys; from mrqm.__main__ import app\ntry: app()\nfinally: print('ray' in sys.modules)"
    command = [sys.executable, "-c", code, "submit", *options, "--", "registry", "list"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stdout.endswith("False\n")  # Ray, which takes seconds, was not imported
    return done.stderr


def test_no_cluster_at_the_address(tmp_path: Path) -> None:
    with nothing() as address:
        assert f"{address}: no Ray cluster answers there" in submit(tmp_path, "--address", address)
        assert f"{address}: no Ray cluster answers there" in submit(tmp_path, RAY_API_SERVER_ADDRESS=address)
        assert f"{address}: no Ray cluster answers there" in submit(tmp_path, RAY_ADDRESS=address)


def test_an_address_that_never_answers(tmp_path: Path) -> None:
    with silence() as address:
        assert f"{address}: no Ray cluster answers there (timed out)" in submit(tmp_path, "--address", address)


def test_an_address_that_is_none(tmp_path: Path) -> None:
    assert "RAY_ADDRESS=127.0.0.1:6379: not the address" in submit(tmp_path, RAY_ADDRESS="127.0.0.1:6379")
    assert "--address=ray://head:10001: not the address" in submit(tmp_path, "--address", "ray://head:10001")


@pytest.mark.parametrize(
    ("status", "said"), [(200, "no Ray dashboard answers there"), (404, "HTTP 404: no Ray dashboard")]
)
def test_something_else_answers(httpserver: HTTPServer, tmp_path: Path, status: int, said: str) -> None:
    address = answer(httpserver, "hello", status)
    assert f"{address}: {said}" in submit(tmp_path, "--address", address)


def test_an_old_ray(httpserver: HTTPServer, tmp_path: Path) -> None:
    address = answer(httpserver, json.dumps({"ray_version": "2.9.3"}))
    assert f"{address} runs Ray 2.9.3, and mrqm needs 2.60 or newer" in submit(tmp_path, "--address", address)


def test_a_token_is_missing_or_refused(httpserver: HTTPServer, tmp_path: Path) -> None:
    address = answer(httpserver, "Unauthorized: Missing authentication token", 401)
    assert f"{address} requires a token, and none was found" in submit(tmp_path, "--address", address)
    message = submit(tmp_path, "--address", address, RAY_AUTH_TOKEN="secret-of-another")
    assert f"{address} refused the token of RAY_AUTH_TOKEN" in message
    assert "secret-of-another" not in message
    gone = submit(tmp_path, "--address", address, RAY_AUTH_TOKEN_PATH=f"{tmp_path}/gone")
    assert f"{tmp_path}/gone: the token cannot be read" in gone


def test_a_working_directory_that_is_too_large_is_refused_first(tmp_path: Path) -> None:
    with (tmp_path / "flight.mp4").open("wb") as file:
        file.truncate(2 * 2**30)
    with nothing() as address:
        message = submit(tmp_path, "--address", address)
    assert "2.1 GB  flight.mp4" in message
    assert address not in message
