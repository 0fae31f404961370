"""The watcher of spot machines, against a metadata service that gives its notice at the third question."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "cluster" / "ray-up" / "spot_notice.sh"


class Metadata(BaseHTTPRequestHandler):
    """As AWS's second version: no answer without a session token."""

    questions = 0

    def do_PUT(self) -> None:
        self._answer(200 if self.path == "/latest/api/token" else 404, b"session")

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != "session" or not self.path.endswith("/spot/instance-action"):
            self._answer(401, b"")
            return
        Metadata.questions += 1
        self._answer(200 if Metadata.questions == 3 else 404, b'{"action": "terminate"}')

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_node_is_drained_when_the_notice_comes(metadata: str, tmp_path: Path) -> None:
    (tmp_path / "ray").write_text('#!/bin/sh\necho "$@"\n')  # tests of the files hold the command against Ray's own
    (tmp_path / "ray").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "METADATA": metadata, "SECONDS_BETWEEN": "0"}
    done = subprocess.run(
        ["sh", str(SCRIPT)], env={**environment, "RAY_ADDRESS": "head:6379"}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert Metadata.questions == 3
    assert "drain-node --address head:6379 --reason DRAIN_NODE_REASON_PREEMPTION" in done.stdout
