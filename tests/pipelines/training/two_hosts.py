"""Two hosts on one machine: network namespaces with a cable between them, and a Ray cluster across it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ...waiting import WATCHFUL

ROOT = Path(__file__).parents[3]
HEAD, WORKER = "10.213.77.1", "10.213.77.2"
PORT, CABLE = 6379, "cable"


def unsupported_reason() -> str | None:
    """Return the reason why this machine has no network namespaces; None if it has."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "network namespaces need Linux and iproute2"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"mrqm-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


class TwoHosts:
    """A head and a worker host; each sees only its own loopback and the cable.

    Args:
        folder: folder of the test, shared by both hosts; working directory of commands.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts = {HEAD: f"mrqm-{os.getpid()}-a", WORKER: f"mrqm-{os.getpid()}-b"}
        self.sessions = Path(tempfile.mkdtemp(prefix="mrqm-", dir="/tmp"))  # sockets have short paths only
        self.token = secrets.token_hex(32)
        self._token_file = folder / "token"
        self._token_file.touch(mode=0o600)
        self._token_file.write_text(self.token)

    def connect(self) -> None:
        """Create the hosts and connect them."""
        head, worker = self.hosts.values()
        for namespace in (head, worker):
            _run("ip", "netns", "add", namespace)
        _run(*f"ip -n {head} link add {CABLE} type veth peer name {CABLE} netns {worker}".split())
        for address, namespace in self.hosts.items():
            _run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", CABLE)
            for link in ("lo", CABLE):
                _run("ip", "-n", namespace, "link", "set", link, "up")

    def start_ray(self) -> None:
        """Start a Ray node of one CPU on each host."""
        ray = Path(sys.executable).with_name("ray")
        common = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
        head = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self.sessions}"]
        head += [f"--system-config={json.dumps(WATCHFUL)}"]
        self.start(HEAD, ray, "start", *head, f"--node-ip-address={HEAD}", *common)
        self._wait_for_port()
        self.start(WORKER, ray, "start", f"--address={HEAD}:{PORT}", f"--node-ip-address={WORKER}", *common)
        self._wait_for_both()

    def start(self, host: str, *command: object, **more: str) -> subprocess.Popen[str]:
        """Start a command on a host, in the folder, with its output in a separate file."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
        environment = {
            **kept, "HOME": str(self.folder), "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._token_file), **more,
        }  # fmt: skip
        with (self.folder / f"log-{host}-{time.monotonic_ns()}").open("w") as log:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.hosts[host], *map(str, command)],
                cwd=self.folder, env=environment, stdout=log, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip

    def mrqm(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command of `mrqm` on the head's host, as a user of the cluster."""
        address = {"RAY_ADDRESS": f"{HEAD}:{PORT}", "COLUMNS": "400"}
        return self.start(HEAD, sys.executable, "-m", "mrqm", *words, **(address | environment))

    def logs(self) -> str:
        """Return the output of all commands on both hosts."""
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(self.folder.glob("log-*")))

    def destroy(self, host: str) -> None:
        """Kill all processes of a host, as in a power failure."""
        pids = subprocess.run(["ip", "netns", "pids", self.hosts[host]], capture_output=True, text=True).stdout
        for pid in pids.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue

    def close(self) -> None:
        """Remove the hosts and their files."""
        for host, namespace in self.hosts.items():
            self.destroy(host)
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)
        shutil.rmtree(self.sessions, ignore_errors=True)

    def _wait_for_both(self) -> None:
        for _ in range(240):
            if self.logs().count("Ray runtime started") == len(self.hosts):
                return
            time.sleep(0.5)
        raise TimeoutError(self.logs())

    def _wait_for_port(self) -> None:
        probe = f"import socket; socket.create_connection(('{HEAD}', {PORT}), 1)"
        for _ in range(120):
            command = ["ip", "netns", "exec", self.hosts[WORKER], sys.executable, "-c", probe]
            if subprocess.run(command, capture_output=True).returncode == 0:
                return
            time.sleep(0.5)
        raise TimeoutError(self.logs())


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr}")
