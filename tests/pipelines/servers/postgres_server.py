"""A PostgreSQL server on loopback with its own data folder, from the system's programs."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from ..registered import free_port

SERVICE_ACCOUNT = "postgres"
"""Account that runs the server if root runs the tests, since PostgreSQL refuses root."""


def find_programs() -> Path | None:
    """Find the newest folder with PostgreSQL's programs, which Debian has outside of PATH; None if unusable."""
    if os.geteuid() == 0 and all(entry.pw_name != SERVICE_ACCOUNT for entry in pwd.getpwall()):
        return None
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return found[-1] if found else None


class PostgresServer:
    """A server with one empty database, for as long as the context is open.

    Args:
        programs: folder with `initdb`, `postgres` and `pg_isready`.

    Attributes:
        uri: URI of the database.
    """

    def __init__(self, programs: Path) -> None:
        self._programs, self._port = programs, free_port()
        self._account = SERVICE_ACCOUNT if os.geteuid() == 0 else None
        self.uri = f"postgresql+psycopg2://mrqm@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> PostgresServer:
        # Not in pytest's folder, which only its owner may enter.
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if self._account:
            shutil.chown(self._folder, self._account)
        self._run("initdb", "--auth=trust", "--username=mrqm", "--encoding=UTF8", "--no-sync", "--pgdata", "data")
        options = ["-D", "data", "-h", "127.0.0.1", "-p", str(self._port), "-k", str(self._folder), "-F"]
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", *options], cwd=self._folder, user=self._account, stdout=log, stderr=log
            )
        for _ in range(100):
            if self._answers():
                return self
            time.sleep(0.2)
        log_text = (self._folder / "log").read_text()
        self.__exit__()
        pytest.fail(log_text)

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)  # disconnects clients and ends
        self._process.wait()
        shutil.rmtree(self._folder)

    def _answers(self) -> bool:
        command = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        return subprocess.run(command).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._programs / program, *arguments]
        ended = subprocess.run(command, cwd=self._folder, user=self._account, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
