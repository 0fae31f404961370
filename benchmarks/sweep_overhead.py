"""Measure the overhead of a sweep: 50 trials of a known length on two CPUs, as `mrqm tune` runs them.

    python benchmarks/sweep_overhead.py                # trials of 15 seconds
    python benchmarks/sweep_overhead.py --seconds 1    # of five: the start of the first processes has a larger share

An epoch keeps a processor busy for a known wall-clock time. Everything else is real: Ray Tune, trial scheduler, TPE,
ASHA (which stops no trial here), journal, MLflow, the lines of a log. Their overhead is the time between epochs and
trials, by which the sweep is longer, and the driver's processor time, if every CPU trains. The same trials under Ray
Tune alone, in reused processes too, are measured for comparison.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import ray
import ray.tune
from rich.console import Console

from mrqm.config import Config, load_config
from pipelines.process.configure import configure_process
from tune.execution.ray_tune import run_trials
from tune.execution.trainable import SweepTrial
from tune.report.live_table import LiveTable
from tune.report.mlflow_recorder import Recorder
from tune.report.plan import Plan
from tune.search.trial_scheduler import TrialScheduler
from tune.space.sampling import ConfigSampler
from tune.space.schema import Space, make_space
from tune.state.history import History
from tune.state.journal import Journal
from tune.state.messages import Epoch, Task
from tune.state.records import Reported, SessionBegan, TrialBegan

CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"
IMPORTS = {
    "imports of a trial": "import tune.execution.trainable",
    "  of its libraries alone": "import ray.tune, ray.train.torch, torchvision, timm, scipy.optimize",
}


class TimedTrial(SweepTrial):
    """A trial that computes for a known time instead of training."""

    seconds = 1.0

    def epochs(self, config: Config, task: Task) -> Generator[Epoch, None, None]:
        """Compute epochs with empty checkpoints.

        Args:
            config: configuration of the trial.
            task: task of the process.

        Yields:
            The epochs.
        """
        for epoch in range(1, config.train.epochs + 1):
            compute(self.seconds)
            metrics = {"train/loss": 1 / epoch, "coco/AP": config.loss.mining.base_iou - 0.1 / epoch}
            checkpoint = Path(config.output_dir) / config.name / f"epoch_{epoch:04d}"
            checkpoint.mkdir(parents=True)
            yield Epoch(epoch, epoch, self.seconds, metrics, str(checkpoint), True, epoch == config.train.epochs)


class BareTrial(ray.tune.Trainable):
    """A trial of the same length under Ray Tune alone."""

    def setup(self, config: dict[str, Any], seconds: float, epochs: int) -> None:
        """Import the modules of a training.

        Args:
            config: parameters of the trial.
            seconds: seconds of an epoch.
            epochs: number of epochs.
        """
        import tune.execution.trainable  # noqa: F401

        self.seconds, self.number = seconds, epochs

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Accept any other trial in the same process."""
        return True

    def step(self) -> dict[str, Any]:
        """Compute an epoch."""
        compute(self.seconds)
        return {"AP": self.iteration, "done": self.iteration + 1 == self.number}


def compute(seconds: float) -> None:
    """Keep a processor busy for some seconds."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def main() -> None:
    configure_process()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of an epoch")
    parser.add_argument("--cpus", type=int, default=2)
    arguments = parser.parse_args()
    trials, epochs, seconds, cpus = arguments.trials, arguments.epochs, arguments.seconds, arguments.cpus
    for name, statement in IMPORTS.items():
        print(f"{name:<28}{seconds_to_import(statement):>8.2f} s", flush=True)
    TimedTrial.seconds = seconds
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ideal = -(-trials // cpus) * epochs * seconds
    print(f"{f'{trials} trials on {cpus} CPUs, ideal':<28}{ideal:>8.2f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        began, busy = time.perf_counter(), time.process_time()
        history = run_sweep(Path(folder), trials, epochs, cpus)
        wall, busy = time.perf_counter() - began, time.process_time() - busy
        print(f"{'sweep':<28}{wall:>8.2f} s{wall / ideal - 1:>9.1%}", flush=True)
        print_waits(history, seconds, cpus)
        print(f"{'  processor of the driver':<28}{busy:>8.2f} s{busy / (cpus * wall):>9.1%}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run_bare(Path(folder), trials, epochs, seconds)
        wall = time.perf_counter() - began
        print(f"{'Ray Tune alone':<28}{wall:>8.2f} s{wall / ideal - 1:>9.1%}")
    ray.shutdown()


def seconds_to_import(statement: str) -> float:
    """Measure the seconds of an import in a new process, with files that were read before."""
    times = []
    for _ in range(2):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        times.append(time.perf_counter() - began)
    return min(times)


def run_sweep(folder: Path, trials: int, epochs: int, cpus: int) -> History:
    """Run a sweep as `mrqm tune` does after its plan, until MLflow has everything.

    Args:
        folder: folder for the sweep and its MLflow store.
        trials: number of trials.
        epochs: epochs of a trial.
        cpus: number of CPUs.

    Returns:
        The history of the sweep.
    """
    space = timed_space(trials, epochs)
    words = [f"train.epochs={epochs}", "train.max_minutes=null", "scaling.num_workers=1", f"output_dir={folder}"]
    config = load_config(CONFIG, ["name=overhead", f"tracking.uri=sqlite:///{folder}/mlflow.db", *words])
    plan = Plan(trials=trials, epochs=epochs, at_once=cpus, checkpoints=0, checkpoint_bytes=0)
    sweep_folder = folder / config.name
    sweep_folder.mkdir()
    trials_config = config.model_copy(update={"output_dir": str(sweep_folder)})
    with closing(Journal(sweep_folder / "sweep.jsonl")) as journal, (folder / "log").open("w") as log:
        scheduler = TrialScheduler(ConfigSampler(space, config), journal, sweep_folder, epochs)
        with Recorder(config, trials_config, journal, {}) as recorder:
            recorder.catch_up()
            journal.write(SessionBegan(trials=trials))
            with LiveTable(space, plan, journal, Console(file=log)) as live:
                journal.listeners += [recorder, live]
                run_trials(scheduler, space, trials_config, live.say, TimedTrial)
            recorder.finish()
    return journal


def timed_space(trials: int, epochs: int) -> Space:
    """Make a space with TPE, and with ASHA whose only rung is the last epoch, so that all trials are equally long.

    Args:
        trials: number of trials.
        epochs: epochs of a trial.

    Returns:
        The space.
    """
    return make_space(
        {
            "scheduler": {"algorithm": "asha", "grace_period": epochs},
            "budget": {"trials": trials},
            "parameters": {
                "loss.mining.base_iou": {"uniform": [0.4, 0.7]},
                "loss.one_to_many.dense_loss_weight": {"loguniform": [0.25, 2]},
            },
        }
    )


def print_waits(history: History, seconds: float, cpus: int) -> None:
    """Print the times before and between epochs, from the journal.

    Args:
        history: history of the sweep.
        seconds: seconds of an epoch.
        cpus: number of CPUs.
    """
    began = {entry.trial: entry.at for entry in history.entries if isinstance(entry, TrialBegan)}
    reports = [entry for entry in history.entries if isinstance(entry, Reported)]
    assert len(began) == len({r.trial for r in reports if r.verdict == "finished"}), "every trial trains to its end"
    at = {(report.trial, report.epoch): report.at for report in reports}
    starts = [at[trial, 1] - began[trial] - seconds for trial in sorted(began)]
    between = [at[t, epoch] - at[t, epoch - 1] - seconds for t, epoch in at if epoch > 1]
    print(f"{'  start of a process':<28}{statistics.median(starts[:cpus]):>8.2f} s")
    print(f"{'  of a trial in it':<28}{statistics.median(starts[cpus:]):>8.2f} s{'most':>9} {max(starts[cpus:]):.2f} s")
    print(f"{'  between epochs':<28}{statistics.median(between):>8.2f} s{'most':>9} {max(between):.2f} s", flush=True)


def run_bare(folder: Path, trials: int, epochs: int, seconds: float) -> None:
    """Run trials of the same length under Ray Tune alone.

    Args:
        folder: folder for Ray Tune's files.
        trials: number of trials.
        epochs: epochs of a trial.
        seconds: seconds of an epoch.
    """
    trainable = ray.tune.with_parameters(BareTrial, seconds=seconds, epochs=epochs)
    ray.tune.Tuner(
        ray.tune.with_resources(trainable, {"CPU": 1}),
        param_space={"base_iou": ray.tune.uniform(0.4, 0.7)},
        tune_config=ray.tune.TuneConfig(num_samples=trials, reuse_actors=True),
        run_config=ray.tune.RunConfig(
            storage_path=str(folder), verbose=0, checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False)
        ),
    ).fit()


if __name__ == "__main__":
    main()
