"""Measure the overhead of Ray, MLflow and checkpoints: a training in Python, torchrun, bare Ray Train and `mrqm train`.

    mrqm demo-data data/many --train 300 --val 8      # an epoch with more steps than are measured
    python benchmarks/overhead.py -c configs/demo.yaml --steps 100 data.root=data/many train.checkpoint_minutes=0.25

plain     one process with the threads of all workers together
torchrun  a process for each worker, `mrqm.engine.trainer` alone
bare ray  the same in Ray Train's workers
mrqm      `mrqm train`: events to the driver, MLflow (SQLite), system metrics, checkpoints within the epoch

All use the same data, weights, order and threads, one after the other, `--repeats` times. Speed is steps over wall
time after `--warm-up` steps, so that all pauses of a training count. Ray's own processes take a tenth of a core even
when idle, and workers on all cores of a small machine wait for the one that shares its core with them: the default of
`scaling.num_workers` is therefore 1.

A machine whose speed drifts by some per cent within minutes hides smaller differences. `computing` does not drift: it
is the share of the measured time in which the training thread had a core and computed; the rest is waiting, for other
workers, for the driver, for Python's lock while checkpoints are written, or for a core.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thread_times import ThreadTimes

MODES = ("plain", "torchrun", "bare ray", "mrqm")


class EnoughError(Exception):
    """The end of a training after the requested steps."""


@dataclass(frozen=True)
class Run:
    """One measured training.

    Attributes:
        speed: images per second.
        start: seconds until the first step.
        computing: share of the time in which the training thread computed, 0 to 1.
    """

    speed: float
    start: float
    computing: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", "-c", default="configs/demo.yaml")
    parser.add_argument("--steps", type=int, default=60, help="steps to measure, after warming up")
    parser.add_argument("--warm-up", type=int, default=10, help="steps that are left out")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--measure", nargs=3, metavar=("MODE", "CONFIG", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    last = arguments.warm_up + arguments.steps
    if arguments.measure:
        mode, config, out = arguments.measure
        run_on_ray(config, out, last) if mode == "bare ray" else train(config, out, last)
        return
    from mrqm.config import load_config
    from pipelines.storage.absolute_paths import with_absolute_paths

    config = load_config(arguments.config, ["scaling.num_workers=1", *arguments.overrides])
    config = with_absolute_paths(config)  # workers have a folder of their own
    found: dict[str, list[Run]] = {mode: [] for mode in MODES}
    for repeat in range(arguments.repeats):
        for mode in MODES if repeat % 2 == 0 else reversed(MODES):
            with tempfile.TemporaryDirectory() as folder:
                begin = time.time()
                times, sampler = measure(mode, config, Path(folder), last)
            first, end = min(s for s in times if s >= arguments.warm_up), max(times)
            speed = (end - first) * config.train.batch_size / (times[end] - times[first])
            run = Run(speed, times[min(times)] - begin, sampler.computing(times[first], times[end]))
            found[mode].append(run)
            print(
                f"{mode:<9}{run.speed:8.3f} img/s, {run.computing:.1%} computing, first step after {run.start:.1f} s",
                file=sys.stderr,
            )
    report(found, config.train.batch_size)


def report(found: dict[str, list[Run]], batch_size: int) -> None:
    """Print medians over the repeats.

    Args:
        found: runs of each mode.
        batch_size: images per step.
    """
    speeds = {mode: statistics.median(run.speed for run in runs) for mode, runs in found.items()}
    computing = {mode: statistics.median(run.computing for run in runs) for mode, runs in found.items()}
    print(f"{'':<10}{'img/s':>8}{'s/step':>8}{'of torchrun':>13}{'computing':>11}{'to first step':>15}")
    for mode, runs in found.items():
        start = statistics.median(run.start for run in runs)
        share = speeds[mode] / speeds["torchrun"]
        row = f"{mode:<10}{speeds[mode]:>8.3f}{batch_size / speeds[mode]:>8.3f}{share:>13.3f}"
        print(f"{row}{computing[mode]:>11.1%}{start:>13.1f} s")
    cost, waiting = 1 - speeds["mrqm"] / speeds["bare ray"], computing["bare ray"] - computing["mrqm"]
    print(f"events, MLflow and checkpoints together take {cost:.1%} of a step, by speed; {waiting:.1%} by waiting")


def measure(mode: str, config: Any, folder: Path, last: int) -> tuple[dict[int, float], ThreadTimes]:
    """Train in processes of their own until a step.

    Args:
        mode: one of `MODES`.
        config: configuration of the training.
        folder: folder for its files.
        last: number of the last step.

    Returns:
        Seconds since 1970 at which steps were done, by step, and the processor times of threads.
    """
    workers, threads = config.scaling.num_workers, config.scaling.cpus_per_worker
    file, out = folder / "config.yaml", folder / "times.json"
    threads = threads * workers if mode == "plain" else threads
    scaling = config.scaling.model_copy(update={"cpus_per_worker": threads})
    tracking = config.tracking.model_copy(
        update={"uri": f"sqlite:///{folder}/mlflow.db", "registered_model_name": None}
    )
    own = {"name": "overhead", "output_dir": str(folder), "scaling": scaling, "tracking": tracking}
    file.write_text(config.model_copy(update=own).to_yaml())
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment |= {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(Path(__file__).parents[1])}
    if mode == "mrqm":
        return measure_product(folder, environment, last)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
    command = [sys.executable, *(launcher if mode == "torchrun" else []), __file__]
    command += ["--warm-up", "0", "--steps", str(last), "--measure", mode, str(file), str(out)]
    sampler = ThreadTimes(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
    while sampler.command.poll() is None:
        sampler.sample()
        time.sleep(0.5)
    if sampler.command.returncode:
        sys.exit(sampler.command.returncode)
    return {int(step): seconds for step, seconds in json.loads(out.read_text()).items()}, sampler


def measure_product(folder: Path, environment: dict[str, str], last: int) -> tuple[dict[int, float], ThreadTimes]:
    """Run `mrqm train` until a step; its event log has about one step per second.

    Args:
        folder: folder with the configuration.
        environment: environment of the command.
        last: number of the last step.

    Returns:
        Seconds since 1970 at which steps were done, by step, and the processor times of threads.
    """
    command = [sys.executable, "-m", "mrqm", "train", "-c", str(folder / "config.yaml")]
    with (folder / "log").open("w") as log:
        driver = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    times, sampler = dict[int, float](), ThreadTimes(driver)
    try:
        while max(times, default=0) < last:
            if driver.poll() is not None:
                sys.exit((folder / "log").read_text() + f"ended before step {last}: give it more data or fewer --steps")
            sampler.sample()
            time.sleep(0.5)
            times = dict(read_steps(folder / "overhead" / "journal.jsonl"))
    finally:
        driver.send_signal(signal.SIGTERM)
        driver.wait()
    return times, sampler


def read_steps(journal: Path) -> Iterator[tuple[int, float]]:
    """Yield the steps of a run's event log, with the seconds since 1970 at which they were done."""
    for line in journal.read_text().splitlines() if journal.is_file() else ():
        entry = json.loads(line)
        if "train/loss" in entry.get("values", ()):
            yield entry["step"], entry["time"] / 1000


def train(config_file: str, out: str, last: int) -> None:
    """Train in this process, one of one or several, and write the times of its steps.

    Args:
        config_file: path of the configuration.
        out: path of a JSON file for seconds since 1970, by step.
        last: number of the last step.
    """
    import torch

    from mrqm.config import load_config
    from mrqm.engine.trainer import Trainer

    if "WORLD_SIZE" in os.environ and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    config = load_config(Path(config_file))
    torch.set_num_threads(config.scaling.cpus_per_worker)
    times: dict[int, float] = {}

    def note(step: Any) -> None:
        times[step.step] = time.time()
        if step.step >= last:
            raise EnoughError

    trainer = Trainer(config, torch.device("cpu"))
    try:
        trainer.train_epoch(note)
    except EnoughError:
        if trainer.rank == 0:
            Path(out).write_text(json.dumps(times))
    else:
        sys.exit(f"an epoch ended before step {last}: give it more data or fewer --steps")


def run_on_ray(config_file: str, out: str, last: int) -> None:
    """Train in Ray Train's workers, without anything else.

    Args:
        config_file: path of the configuration.
        out: path of a JSON file for seconds since 1970, by step.
        last: number of the last step.
    """
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from mrqm.config import load_config
    from pipelines.compute.session import ray_session

    scaling = load_config(Path(config_file)).scaling
    with ray_session():
        TorchTrainer(
            lambda _: train(config_file, out, last),
            train_loop_config={},
            scaling_config=ScalingConfig(
                num_workers=scaling.num_workers, resources_per_worker={"CPU": scaling.cpus_per_worker}
            ),
            run_config=RunConfig(name="bare", storage_path=str(Path(out).parent)),
        ).fit()


if __name__ == "__main__":
    main()
