"""Signals to the process group of commands that compute in one process, in several, or on Ray."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mrqm.checkpoint.folder import save_checkpoint
from mrqm.config import load_config
from mrqm.data.synthetic import SCENE_CLASSES, write_scenes
from mrqm.models.mrqm import build_model

from ...commands import Command
from ...forked_workers import forked_workers
from ...waiting import wait_until
from ..processes import running
from ..workplace import Workplace

LASTING = ("data.scale=4", "data.max_side=null", "evaluation.batch_size=1")
BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
PREDICTOR = re.compile("MapWorker|MapBatches")
Start = Callable[..., Command]


@pytest.fixture(scope="module")
def model(workplace: Workplace) -> Path:
    """A checkpoint of the workplace's configuration; beside it are images that take seconds."""
    config = load_config(workplace.config_file, [f"data.root={workplace.folder}/data"])
    write_scenes(workplace.folder / "large", train=8, val=3, size=(480, 480))
    folder = workplace.folder / "model"
    save_checkpoint(folder, build_model(config, len(SCENE_CLASSES)).state_dict(), {}, config, {})
    return folder


@pytest.fixture
def start(workplace: Workplace) -> Iterator[Start]:
    """Start `mrqm WORDS`, which ends with the test."""
    started: list[Command] = []

    def start(*words: str) -> Command:
        started.append(Command(workplace.folder, words))
        return started[-1]

    yield start
    for command in started:
        command.kill()


@pytest.mark.slow
@BOTH
def test_a_group_that_evaluates_ends_quietly(number: signal.Signals, start: Start, model: Path) -> None:
    command = start(
        "evaluate",
        str(model),
        "--view",
        "tiles",
        "data.root=large",
        "data.tile={size: 400}",
        "data.loader_workers=1",
        *LASTING,
    )
    command.wait_until(lambda: any(map(reads_images, command.children())), "an image is being read")
    loading = command.children()
    command.send_to_group(number)
    assert command.end() == 130, command.said
    assert command.output.endswith("stopped; the same command evaluates again\n")
    assert command.errors == ""
    wait_until(lambda: not any(map(is_alive, loading)), "what reads images ends too")


@pytest.mark.slow
@BOTH
def test_a_group_that_predicts_ends_quietly_and_goes_on_later(
    number: signal.Signals, start: Start, model: Path, workplace: Workplace
) -> None:
    out = workplace.folder / f"out-{number.name}"
    words = ("predict", str(model), "large/train/images", "-o", str(out), *LASTING)
    command = start(*words)
    command.wait_until(lambda: any(out.rglob("*.jpg")), "an image is done")
    command.send_to_group(number)
    assert command.end() == 130, command.said
    assert command.output.endswith(f"stopped; the same command continues in {out}\n")
    assert command.errors == ""
    again = start(*words)
    again.wait_for("of 8 images are already done")


@pytest.mark.ray
def test_a_group_that_predicts_on_a_ray_of_its_own_ends_with_it(start: Start, model: Path) -> None:
    with forked_workers():
        command = start("predict", str(model), "large/train/images", "-o", "out-ray", "--workers", "1", *LASTING)
        command.wait_until(lambda: running(PREDICTOR), "Ray predicts")
        nodes = command.children()
        command.send_to_group(signal.SIGTERM)
        assert command.end() == 130, command.said
        assert command.output == "stopped; the same command continues in out-ray\n"
        assert "Traceback" not in command.errors
        wait_until(lambda: not any(map(is_alive, nodes)), "Ray ends")
        wait_until(lambda: not running(PREDICTOR), "its workers end")


def reads_images(process: psutil.Process) -> bool:
    """Return true for a running worker of PyTorch's loader, which has left the process group."""
    return process.name() == "pt_data_worker" and os.getpgid(process.pid) == process.pid


def is_alive(process: psutil.Process) -> bool:
    """Return true for a process that has not ended."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
