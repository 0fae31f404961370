"""The watcher of spot machines, against a metadata service that gives its notice at the third question."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

SCRIPT = Path(__file__).parents[3] / "cluster" / "ray-up" / "spot_notice.sh"


@pytest.fixture
def metadata(httpserver: HTTPServer) -> HTTPServer:
    """AWS's second version of the service, which answers nothing without a session token."""
    notice = {"uri": re.compile(".*/spot/instance-action"), "headers": {"X-aws-ec2-metadata-token": "session"}}
    httpserver.expect_request("/latest/api/token", method="PUT").respond_with_data("session")
    for _ in range(2):
        httpserver.expect_oneshot_request(**notice).respond_with_data("", status=404)
    httpserver.expect_request(**notice).respond_with_data('{"action": "terminate"}')
    return httpserver


def test_the_node_is_drained_when_the_notice_comes(metadata: HTTPServer, tmp_path: Path) -> None:
    (tmp_path / "ray").write_text('#!/bin/sh\necho "$@"\n')  # tests of the files hold the command against Ray's own
    (tmp_path / "ray").chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "METADATA": metadata.url_for("").rstrip("/"),
        "SECONDS_BETWEEN": "0",
    }
    done = subprocess.run(
        ["sh", str(SCRIPT)], env={**environment, "RAY_ADDRESS": "head:6379"}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    questions = [request for request, _ in metadata.log if request.method == "GET"]
    assert len(questions) == 3
    assert "drain-node --address head:6379 --reason DRAIN_NODE_REASON_PREEMPTION" in done.stdout
