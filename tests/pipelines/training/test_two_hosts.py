"""A training across a network: two hosts, Ray with a token, a shared folder; one host fails on the way.

Both hosts resolve their own name to loopback, as many systems do.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mrqm.config import Config
from mrqm.data.synthetic import SCENE_CLASSES, write_scenes

from ...waiting import PATIENCE, wait_until
from .two_hosts import HEAD, WORKER, TwoHosts, unsupported_reason

pytestmark = [pytest.mark.ray, pytest.mark.slow]
TinyConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, tiny_config: TinyConfig) -> Iterator[TwoHosts]:
    if reason := unsupported_reason():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("hosts")
    write_scenes(folder / "data", train=8, val=3, size=(96, 96))
    config = tiny_config(f"data.root={folder}/data", f"data.classes=[{','.join(SCENE_CLASSES)}]", "data.max_side=64")
    (folder / "tiny.yaml").write_text(config.to_yaml())
    hosts = TwoHosts(folder)
    try:
        hosts.connect()
        hosts.start_ray()
        yield hosts
    finally:
        hosts.close()


def checks_of(hosts: TwoHosts, *words: str) -> dict[str, dict[str, str]]:
    before = set(hosts.folder.glob("log-*"))
    process = hosts.mrqm("plan", "-c", "tiny.yaml", "--json", *words)
    process.wait(PATIENCE)
    (log,) = set(hosts.folder.glob("log-*")) - before
    text = log.read_text()
    return {check["name"]: check for check in json.loads(text[text.index("{\n") :])["checks"]}


def test_a_plan_asks_both_hosts(hosts: TwoHosts) -> None:
    checks = checks_of(hosts, "scaling.num_workers=2")
    assert checks["cluster"]["status"] == "ok", checks
    assert checks["nodes"]["finding"] == "all 2 nodes answered"
    assert {checks[name]["status"] for name in ("versions", "output", "data on nodes")} == {"ok"}
    assert [path.name for path in hosts.folder.glob(".mrqm-plan*")] == []
    assert not (hosts.folder / "runs").exists()


def test_a_training_crosses_the_network_and_survives_the_loss_of_a_host(hosts: TwoHosts) -> None:
    words = ["train", "-c", "tiny.yaml", "name=far", "scaling.num_workers=[1,2]", "train.epochs=15"]
    words += ["train.evaluate_every=15"]
    process = hosts.mrqm(*words, RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S="5", GLOO_LOG_LEVEL="INFO")
    run = hosts.folder / "runs" / "far"
    wait_until(lambda: any(run.glob("epoch_*/config.yaml")) or process.poll() is not None, "a checkpoint", hosts.logs)
    assert process.poll() is None, hosts.logs()
    used = [event for event in (run / "journal.jsonl").read_text().splitlines() if "system/node_1" in event]
    assert used or busy(hosts, WORKER), "the second host takes no part"
    hosts.destroy(WORKER)
    assert process.wait(PATIENCE) == 0, hosts.logs()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["registered_as"]
    (interruption,) = [json.loads(line) for line in (run / "interruptions.jsonl").read_text().splitlines()]
    assert "worker" in json.dumps(interruption)
    assert summary["epoch"] > 1


def test_the_token_is_in_no_log_and_no_command_line(hosts: TwoHosts) -> None:
    places = [hosts.sessions, hosts.folder / "runs", *hosts.folder.glob("log-*")]
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place]) if file.is_file()]
    assert len(files) > 20
    assert [file for file in files if hosts.token.encode() in file.read_bytes()] == []
    pids = subprocess.run(["ip", "netns", "pids", hosts.hosts[HEAD]], capture_output=True, text=True).stdout.split()
    assert len(pids) > 2
    commands = [Path(f"/proc/{pid}/cmdline") for pid in pids]
    assert [path for path in commands if path.exists() and hosts.token.encode() in path.read_bytes()] == []


def busy(hosts: TwoHosts, host: str) -> bool:
    """Return true if a training worker runs on a host."""
    pids = subprocess.run(["ip", "netns", "pids", hosts.hosts[host]], capture_output=True, text=True).stdout
    commands = [Path(f"/proc/{pid}/cmdline") for pid in pids.split()]
    return any(b"RayTrainWorker" in path.read_bytes() for path in commands if path.exists())
