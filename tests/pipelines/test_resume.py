"""Runs that are stopped and killed, on a real Ray, and the same command afterwards."""

import contextlib
import io
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mrqm.config import load_config
from pipelines.runs import RunError
from pipelines.train import train

from .histories import assert_told_once_and_in_order
from .processes import worker_of
from .uninterrupted import assert_as_if_uninterrupted
from .watched import PATIENCE
from .workplace import UNHURRIED, Workplace

pytestmark = pytest.mark.ray

LONG = ["name=long", "train.epochs=15", "train.evaluate_every=15", "scaling.num_workers=1", *UNHURRIED]
LONG += ["data.max_side=128", "train.checkpoint_minutes=0.002"]  # checkpoints within every epoch


def wait_for_line(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdout is not None
    assert any(word in line for line in process.stdout), f"{word!r} was never printed"


def wait_for_checkpoint(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not any((path / "training.pt").is_file() for path in folder.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} in {folder}"
        time.sleep(0.01)


def wait_for_end(pid: int) -> None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        deadline = time.monotonic() + PATIENCE
        while Path(f"/proc/{pid}/cmdline").read_bytes():  # empty when it has ended and nobody has asked how
            assert time.monotonic() < deadline, f"process {pid} does not end"
            time.sleep(0.05)


@pytest.fixture
def start_long_run(workplace: Workplace) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """Start, or start again, a run of many epochs; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        started.append(workplace.start(*LONG))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_stopped_and_killed_run_continues(
    start_long_run: Callable[[], "subprocess.Popen[str]"], ray_here: None, inside: Workplace, tmp_path: Path
) -> None:
    stopped = start_long_run()
    wait_for_line(stopped, "2/15 ")
    stopped.send_signal(signal.SIGTERM)
    output, _ = stopped.communicate()
    assert stopped.returncode == 130
    assert "the same command continues" in output
    assert inside.mlflow_run("long").info.status == "KILLED"

    killed = start_long_run()
    wait_for_line(killed, "continues after epoch")
    wait_for_line(killed, "/15 ")
    with pytest.raises(RunError, match="is being trained by another process"):
        train(load_config(inside.config_file, LONG))
    os.kill(worker_of(killed.pid), signal.SIGKILL)
    wait_for_line(killed, "note: worker 0 died")
    wait_for_line(killed, "continues after epoch")
    wait_for_line(killed, "s lost: worker 0 died")
    wait_for_checkpoint(inside.folder / "runs" / "long", "epoch_*_step_*")
    worker = worker_of(killed.pid)
    killed.kill()  # the worker may finish epochs, of which nobody hears, before Ray ends it
    killed.communicate()
    wait_for_end(worker)

    newest = max(path.parent for path in (inside.folder / "runs" / "long").glob("epoch_*/config.yaml"))
    (newest / "training.pt").write_bytes(b"cut off")
    log = io.StringIO()
    summary = train(load_config(inside.config_file, LONG), Console(file=log))
    assert f"{newest.name}/training.pt: damaged" in log.getvalue()
    assert "going on from the checkpoint before" in log.getvalue()
    assert "continues after epoch" in log.getvalue()
    assert summary.epoch == 15
    run = inside.mlflow_run("long")
    assert run.info.status == "FINISHED"
    assert_told_once_and_in_order(summary.tracking_uri, run.info.run_id, epochs=15)
    assert run.data.metrics["restarts"] == 3  # a command, a worker, a command
    assert run.data.metrics["seconds_lost"] > 0
    assert_as_if_uninterrupted(load_config(inside.config_file, LONG), summary, tmp_path)
