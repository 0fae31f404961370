"""Resumption of stopped and killed runs by the same command, on a real Ray."""

import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mrqm.config import load_config
from pipelines.storage.run_dir import RunError
from pipelines.training.driver import train

from ...commands import Command
from ...waiting import wait_until
from ..histories import assert_logged_once_in_order
from ..processes import WORKER, running, worker
from ..workplace import SLOW_STEPS, Workplace
from .uninterrupted import assert_as_if_uninterrupted

pytestmark = pytest.mark.ray

LONG = ["name=long", "train.epochs=15", "train.evaluate_every=15", "scaling.num_workers=1", *SLOW_STEPS]
LONG += ["data.max_side=128", "train.checkpoint_minutes=0.002"]  # checkpoints within every epoch


@pytest.fixture
def start_long_run(workplace: Workplace) -> Iterator[Callable[[], Command]]:
    """Start or resume a run of many epochs, which ends with the test."""
    started: list[Command] = []

    def start() -> Command:
        started.append(workplace.start(*LONG))
        return started[-1]

    yield start
    for command in started:
        command.kill()


def test_a_stopped_and_killed_run_continues(
    start_long_run: Callable[[], Command], ray_here: None, inside: Workplace, tmp_path: Path
) -> None:
    stopped = start_long_run()
    stopped.wait_for("2/15 ")
    stopped.send_to_group(signal.SIGTERM)
    assert stopped.end() == 130, stopped.said
    assert "the same command continues" in stopped.output
    assert inside.mlflow_run("long").info.status == "KILLED"

    killed = start_long_run()
    killed.wait_for("continues after epoch")
    killed.wait_for("/15 ")
    with pytest.raises(RunError, match="is being trained by another process"):
        train(load_config(inside.config_file, LONG))
    os.kill(worker(), signal.SIGKILL)
    killed.wait_for("note: worker 0 died")
    killed.wait_for("continues after epoch")
    killed.wait_for("s lost: worker 0 died")
    run = inside.folder / "runs" / "long"
    wait_until(lambda: any(run.glob("epoch_*_step_*/training.pt")), "a checkpoint within an epoch")
    killed.kill()  # the worker may finish epochs, of which nobody hears, before Ray ends it
    wait_until(lambda: not running(WORKER), "the worker ends")

    newest = max(path.parent for path in run.glob("epoch_*/config.yaml"))
    (newest / "training.pt").write_bytes(b"cut off")
    log = io.StringIO()
    summary = train(load_config(inside.config_file, LONG), Console(file=log))
    assert f"{newest.name}/training.pt: damaged" in log.getvalue()
    assert "resuming from the previous checkpoint" in log.getvalue()
    assert "continues after epoch" in log.getvalue()
    assert summary.epoch == 15
    tracked = inside.mlflow_run("long")
    assert tracked.info.status == "FINISHED"
    assert_logged_once_in_order(summary.tracking_uri, tracked.info.run_id, epochs=15)
    assert tracked.data.metrics["restarts"] == 3  # a command, a worker, a command
    assert tracked.data.metrics["seconds_lost"] > 0
    assert_as_if_uninterrupted(load_config(inside.config_file, LONG), summary, tmp_path)
