"""`mrqm registry` in this process, and a run that registers a model."""

from __future__ import annotations

import contextlib
import secrets
import socket
from pathlib import Path

from typer.testing import CliRunner

from mrqm.__main__ import app
from mrqm.config import Config
from pipelines.registry.register import register
from pipelines.storage.run_dir import RunFolder
from pipelines.tracking.tracker import Tracker

STAMP = {"protocol.coco": "1 maxDets=1,10,100", "data.digest": "ab12" * 16}
METRICS = {"coco/AP": 0.31, "coco/AP50": 0.52, "coco/AP_large": float("nan"), "coco/AP/a": 0.4}


def registry(*words: str) -> tuple[int, str]:
    """Run `mrqm registry …` in this process; return exit code and output."""
    result = CliRunner().invoke(app, ["registry", *words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def succeed(*words: str) -> str:
    code, output = registry(*words)
    assert code == 0, output
    return output


def refuse(*words: str) -> str:
    code, output = registry(*words)
    assert code == 2, output
    assert output.startswith("error: ")
    return output


def register_run(config: Config, checkpoint: Path, model: str = "spotter") -> str:
    """Register a version of the model, as the end of a training does; return the id of the MLflow run."""
    folder = RunFolder(config)
    folder.path.mkdir(parents=True)
    with Tracker(config, folder) as tracker:
        register(tracker, checkpoint, METRICS, model, STAMP)
    return tracker.run_id


def free_port() -> int:
    """Choose a free port outside the ephemeral range, from which Ray takes ports all the time."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", 20_000 + secrets.randbelow(12_000)))
            return int(probe.getsockname()[1])
