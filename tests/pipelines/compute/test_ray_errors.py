"""Errors that prevent Ray from starting or joining a cluster, each with one sentence and a remedy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ray._private.utils import check_version_info
from ray.exceptions import AuthenticationError

from pipelines.compute.ray_errors import SilentAddressError, explain_start
from pipelines.compute.session import ResourceError, ray_session

ADDRESS = "10.0.0.7:6379"


def test_a_folder_too_long_for_sockets_is_named_with_a_shorter_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    message = f"RAY_TMPDIR={folder}: too long, .* 107 bytes; export RAY_TMPDIR=/tmp$"
    with pytest.raises(ResourceError, match=message), ray_session():
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ResourceError, match=r"RAY_TMPDIR=.*/file: Ray cannot write its files there"), ray_session():
        pass


def test_both_versions_are_named_where_they_differ() -> None:
    with pytest.raises(RuntimeError) as caught:
        check_version_info({"ray_version": "2.1.0", "python_version": "3.9.1"}, "a node")
    said = explain_start(ADDRESS, caught.value)
    here = re.escape(".".join(map(str, sys.version_info[:3])))
    assert re.fullmatch(
        rf"RAY_ADDRESS={ADDRESS}: the cluster runs Ray 2\.1\.0, Python 3\.9\.1, and this process Ray [\d.]+, Python "
        rf"{here}; install the same versions on both sides", said
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (AuthenticationError("Token authentication is enabled but no token was found.\nSee …"), "requires a token"),
        (ConnectionError(f"Failed to connect to Ray cluster at {ADDRESS}"), "refuses this process"),
    ],
)
def test_who_is_kept_out_is_told_of_the_token(error: Exception, words: str) -> None:
    said = explain_start(ADDRESS, error)
    assert words in said and "export RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH=FILE" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("address", "error"),
    [
        (ADDRESS, SilentAddressError(ConnectionRefusedError(111, "Connection refused"))),
        ("auto", ConnectionError("Could not find any running Ray instance.")),
    ],
)
def test_where_nothing_listens_no_token_is_asked_for(address: str, error: Exception) -> None:
    said = explain_start(address, error)
    assert said.startswith(f"RAY_ADDRESS={address}: no Ray cluster answers there; start it")
    assert "token" not in said


@pytest.mark.slow
def test_the_first_version_of_ray_train_is_not_used() -> None:
    code = (
        "from pipelines.process.configure import configure_process; configure_process()\n"
        "import pipelines.training.driver, ray.train.v2._internal.constants as v2\n"
        "print(v2.is_v2_enabled())"
    )
    environment = os.environ | {"RAY_TRAIN_V2_ENABLED": "0"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (ended.stdout, ended.returncode) == ("True\n", 0), ended.stderr
    assert "RAY_TRAIN_V2_ENABLED=0 is ignored: mrqm requires the second version of Ray Train" in ended.stderr
