"""What Ray, MLflow and checkpoints cost: one training in plain Python, by torchrun, on bare Ray Train, by `mrqm train`.

    mrqm demo-data data/many --train 300 --val 8      # more steps in an epoch than are measured
    python benchmarks/overhead.py -c configs/demo.yaml --steps 100 data.root=data/many train.checkpoint_minutes=0.25

plain     one process with the threads of all workers together
torchrun  a process for each worker, `mrqm.engine.trainer` alone
bare ray  the same in Ray Train's workers
mrqm      `mrqm train`: events to the driver, MLflow (SQLite), system metrics, checkpoints within the epoch

All use the same data, weights, order and threads, one after the other, `--repeats` times. Speed is steps over wall
time after `--warm-up` steps, so whatever stops a training counts. Ray's own processes take a tenth of a core also while
they have nothing to do, and workers on all cores of a small machine wait for the one that shares its core with them:
there is one worker unless `scaling.num_workers` says otherwise.

A machine whose speed drifts by some per cent within minutes hides smaller differences. `computing` does not drift: the
share of the measured time in which the thread that trains had a core and computed; the rest is waiting, for other
workers, for the driver, for Python's lock while checkpoints are written, or for a core.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

MODES = ("plain", "torchrun", "bare ray", "mrqm")
SECONDS_BETWEEN_LOOKS = 3.0


class EnoughError(Exception):
    """So many steps as were asked for."""


@dataclass(frozen=True)
class Run:
    """One measured training.

    Attributes:
        speed: images a second.
        start: seconds until the first step.
        computing: share of the time in which the thread that trains computed.
    """

    speed: float
    start: float
    computing: float


@dataclass
class Watch:
    """Looks at what the threads of a command, and of all processes below it, have computed so far."""

    command: subprocess.Popen[bytes]
    looks: list[tuple[float, dict[int, float]]] = field(default_factory=list)

    def look(self) -> None:
        """Take the processor time of every thread, unless that was done a moment ago."""
        if self.looks and time.time() - self.looks[-1][0] < SECONDS_BETWEEN_LOOKS:
            return
        seconds = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.command.pid)
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    seconds |= {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
        self.looks.append((time.time(), seconds))

    def computing(self, first: float, last: float) -> float:
        """Share of the time between two moments in which the busiest thread computed; NaN if that was too short."""
        within = [(moment, seconds) for moment, seconds in self.looks if first <= moment <= last and seconds]
        if len(within) < 2:
            return math.nan
        (begin, before), (end, after) = within[0], within[-1]
        return max(after[thread] - before.get(thread, 0.0) for thread in after) / (end - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", "-c", default="configs/demo.yaml")
    parser.add_argument("--steps", type=int, default=60, help="after warming up")
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
                times, watch = measure(mode, config, Path(folder), last)
            first, end = min(s for s in times if s >= arguments.warm_up), max(times)
            speed = (end - first) * config.train.batch_size / (times[end] - times[first])
            run = Run(speed, times[min(times)] - begin, watch.computing(times[first], times[end]))
            found[mode].append(run)
            print(
                f"{mode:<9}{run.speed:8.3f} img/s, {run.computing:.1%} computing, first step after {run.start:.1f} s",
                file=sys.stderr,
            )
    report(found, config.train.batch_size)


def report(found: dict[str, list[Run]], batch_size: int) -> None:
    """Print medians over the repeats."""
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


def measure(mode: str, config: Any, folder: Path, last: int) -> tuple[dict[int, float], Watch]:
    """Train in processes of their own until a step; seconds since 1970 at which steps were done, and who computed."""
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
    watch = Watch(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
    while watch.command.poll() is None:
        watch.look()
        time.sleep(0.5)
    if watch.command.returncode:
        sys.exit(watch.command.returncode)
    return {int(step): seconds for step, seconds in json.loads(out.read_text()).items()}, watch


def measure_product(folder: Path, environment: dict[str, str], last: int) -> tuple[dict[int, float], Watch]:
    """The same of `mrqm train`, by the steps of its journal, about one a second."""
    command = [sys.executable, "-m", "mrqm", "train", "-c", str(folder / "config.yaml")]
    with (folder / "log").open("w") as log:
        driver = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    times, watch = dict[int, float](), Watch(driver)
    try:
        while max(times, default=0) < last:
            if driver.poll() is not None:
                sys.exit((folder / "log").read_text() + f"ended before step {last}: give it more data or fewer --steps")
            watch.look()
            time.sleep(0.5)
            times = dict(read_steps(folder / "overhead" / "journal.jsonl"))
    finally:
        driver.send_signal(signal.SIGTERM)
        driver.wait()
    return times, watch


def read_steps(journal: Path) -> Iterator[tuple[int, float]]:
    """Steps of a run's journal, and when they were done."""
    for line in journal.read_text().splitlines() if journal.is_file() else ():
        entry = json.loads(line)
        if "train/loss" in entry.get("values", ()):
            yield entry["step"], entry["time"] / 1000


def train(config_file: str, out: str, last: int) -> None:
    """Train in this process, of one or several, and write when steps were done."""
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
    """Train in Ray Train's workers, which do nothing else."""
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
