"""What Ray, MLflow and checkpoints cost: one training in plain Python, by torchrun, on bare Ray Train, by `mrqm train`.

    python benchmarks/overhead.py -c configs/demo.yaml --steps 60 --repeats 2 train.checkpoint_minutes=0.25

plain     one process with the threads of all workers together
torchrun  a process for each worker, `mrqm.trainer` alone
bare ray  the same in Ray Train's workers
mrqm      `mrqm train`: events to the driver, MLflow (SQLite), system metrics, checkpoints within the epoch

All use the same data, weights, order and threads, one after the other, `--repeats` times. Speed is steps over wall
time after `--warm-up` steps, so whatever stops a training counts.
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
from pathlib import Path
from typing import Any

MODES = ("plain", "torchrun", "bare ray", "mrqm")


class EnoughError(Exception):
    """So many steps as were asked for."""


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
    from pipelines.runs import with_absolute_paths

    # workers have a folder of their own
    config = with_absolute_paths(load_config(arguments.config, arguments.overrides))
    found: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
    for repeat in range(arguments.repeats):
        for mode in MODES if repeat % 2 == 0 else reversed(MODES):
            with tempfile.TemporaryDirectory() as folder:
                begin = time.time()
                times = measure(mode, config, Path(folder), last)
            first, end = min(s for s in times if s >= arguments.warm_up), max(times)
            speed = (end - first) * config.train.batch_size / (times[end] - times[first])
            found[mode].append((speed, times[min(times)] - begin))
            print(f"{mode:<9}{speed:8.3f} img/s, first step after {found[mode][-1][1]:.1f} s", file=sys.stderr)
    report(found, config.train.batch_size)


def report(found: dict[str, list[tuple[float, float]]], batch_size: int) -> None:
    """Print medians over the repeats."""
    speeds = {mode: statistics.median(speed for speed, _ in runs) for mode, runs in found.items()}
    print(f"{'':<10}{'img/s':>8}{'s/step':>8}{'of torchrun':>13}{'to first step':>15}")
    for mode, runs in found.items():
        start = statistics.median(seconds for _, seconds in runs)
        share = speeds[mode] / speeds["torchrun"]
        print(f"{mode:<10}{speeds[mode]:>8.3f}{batch_size / speeds[mode]:>8.3f}{share:>13.3f}{start:>13.1f} s")
    cost = 1 - speeds["mrqm"] / speeds["bare ray"]
    print(f"events, MLflow and checkpoints together take {cost:.1%} of a step")


def measure(mode: str, config: Any, folder: Path, last: int) -> dict[int, float]:
    """Train in processes of their own until a step; seconds since 1970 at which steps were done."""
    workers, threads = config.scaling.num_workers, config.scaling.cpus_per_worker
    file, out = folder / "config.yaml", folder / "times.json"
    threads = threads * workers if mode == "plain" else threads
    scaling = config.scaling.model_copy(update={"cpus_per_worker": threads})
    tracking = config.tracking.model_copy(update={"uri": f"sqlite:///{folder}/mlflow.db", "register_as": None})
    own = {"name": "overhead", "output": str(folder), "scaling": scaling, "tracking": tracking}
    file.write_text(config.model_copy(update=own).to_yaml())
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment |= {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(Path(__file__).parents[1])}
    if mode == "mrqm":
        return measure_product(folder, environment, last)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
    command = [sys.executable, *(launcher if mode == "torchrun" else []), __file__]
    command += ["--warm-up", "0", "--steps", str(last), "--measure", mode, str(file), str(out)]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return {int(step): seconds for step, seconds in json.loads(out.read_text()).items()}


def measure_product(folder: Path, environment: dict[str, str], last: int) -> dict[int, float]:
    """The same of `mrqm train`, by the steps of its journal, about one a second."""
    command = [sys.executable, "-m", "mrqm", "train", "-c", str(folder / "config.yaml")]
    with (folder / "log").open("w") as log:
        driver = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    times: dict[int, float] = {}
    try:
        while max(times, default=0) < last:
            if driver.poll() is not None:
                sys.exit((folder / "log").read_text() + f"ended before step {last}: give it more data or fewer --steps")
            time.sleep(0.5)
            times = dict(read_steps(folder / "overhead" / "journal.jsonl"))
    finally:
        driver.send_signal(signal.SIGTERM)
        driver.wait()
    return times


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
    from mrqm.trainer import Trainer

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
    from pipelines.resources import ray_session

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
