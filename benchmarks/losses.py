r"""Compare losses and weights: train variants of a configuration for equally many steps, over seeds.

    OMP_NUM_THREADS=1 python benchmarks/losses.py -c configs/visdrone_mini.yaml --steps 334 --out losses.jsonl \
        --vary loss.classification=quality_focal,matchability_aware --vary loss.loss_weights.classification=1,2,4 \
        --seeds 0,1 data.root=FOLDER model.backbone.weights=WEIGHTS.safetensors

Every combination of the varied keys' values is trained on one CPU thread with each seed and evaluated once, at the end.
Learning rates decay over the steps, not over the epochs. Variants of a loss cost the same, so that equal steps are
equal time, also on a busy machine. A line of `--out` is written when its run is done; the same command continues with
the missing ones, and `--runs 1` trains no more than one of them.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mrqm.config import Config, ConfigError, load_config
from mrqm.data import DataError
from mrqm.engine.progress import DivergenceError
from mrqm.engine.trainer import Trainer
from mrqm.structures.metric import read_metrics

METRICS = ("AP", "AP50", "AP_small")


@dataclass(frozen=True)
class Run:
    """The result of one training.

    Attributes:
        variant: varied settings, `key=value`.
        seed: seed of the training.
        steps: optimizer steps.
        config: digest of the whole configuration; a run with the same digest and steps is not repeated.
        seconds: seconds of training.
        metrics: COCO metrics of the validation data, by name.
    """

    variant: list[str]
    seed: int
    steps: int
    config: str
    seconds: float
    metrics: dict[str, float]


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(1)
    console = Console()
    try:
        wanted = [
            (list(variant), load_config(args.config, [*args.overrides, *variant, *own_settings(seed)]))
            for variant in itertools.product(*args.vary)
            for seed in args.seeds
        ]
        done = read_runs(args.out)
        missing = [(variant, config) for variant, config in wanted if (digest(config), args.steps) not in done]
        for variant, config in missing[: args.runs]:
            run = train(variant, config, args.steps)
            done[run.config, run.steps] = run
            with args.out.open("a") as file:
                file.write(json.dumps(asdict(run)) + "\n")
            scores = ", ".join(f"{metric} {100 * run.metrics[metric]:.2f}" for metric in METRICS)
            console.print(f"{' '.join(variant)} seed {run.seed}: {scores}, {run.seconds:.0f} s")
    except (ConfigError, DataError, DivergenceError) as error:
        raise SystemExit(f"losses.py: {error}") from error
    keys = (pairs[0].partition("=")[0] for pairs in args.vary)
    console.print(f"{args.steps} steps, AP × 100, by {', '.join(keys)}")
    console.print(make_table([run for _, config in wanted if (run := done.get((digest(config), args.steps)))]))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=True, help="YAML file")
    parser.add_argument("--steps", type=int, required=True, help="optimizer steps of each run")
    parser.add_argument(
        "--vary", type=choices, action="append", default=[], metavar="key=value,…", help="values of a key; repeatable"
    )
    parser.add_argument("--seeds", type=numbers, default=[0, 1], metavar="N,…", help="default: 0,1")
    parser.add_argument("--runs", type=int, help="most runs to train; by default all that are missing")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one for each run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the configuration")
    return parser.parse_args()


def choices(text: str) -> list[str]:
    """Split `key=a,b` into `key=a`, `key=b`."""
    key, _, values = text.partition("=")
    return [f"{key}={value}" for value in values.split(",")]


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def own_settings(seed: int) -> list[str]:
    """Return overrides for a single process whose training ends by its steps."""
    return [f"train.seed={seed}", "scaling.num_workers=1", "train.epochs=1000000", "train.max_minutes=null"]


def read_runs(path: Path) -> dict[tuple[str, int], Run]:
    """Read the runs that are done, by configuration and steps."""
    lines = path.read_text().splitlines() if path.is_file() else []
    runs = [Run(**json.loads(line)) for line in lines]
    return {(run.config, run.steps): run for run in runs}


def digest(config: Config) -> str:
    """Return a digest of a configuration."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:12]


def train(variant: list[str], config: Config, steps: int) -> Run:
    """Train a configuration for a number of steps, and evaluate it.

    Args:
        variant: overrides that tell the configuration from others, `key=value`.
        config: configuration to train.
        steps: number of optimizer steps.

    Returns:
        The run with its metrics.
    """
    trainer = Trainer(config, torch.device("cpu"))
    trainer.progress.total_steps = steps
    while not trainer.finished:
        trainer.train_epoch()
    seconds = trainer.progress.elapsed_seconds
    metrics = {metric.name: metric.value for metric in read_metrics(trainer.evaluate())}
    return Run(variant, config.train.seed, steps, digest(config), round(seconds, 1), metrics)


def make_table(runs: list[Run]) -> Table:
    """Make a table of mean and half the range over seeds of each variant, best AP first."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.variant), []).append(run)
    table = Table(box=SIMPLE, pad_edge=False)  # within 80 columns
    table.add_column("variant")
    for column in ("seeds", *METRICS):
        table.add_column(column, justify="right", no_wrap=True)
    for variant, group in sorted(groups.items(), key=lambda item: -mean(item[1], "AP")):
        values = ", ".join(pair.partition("=")[2] for pair in variant)
        scores = [f"{mean(group, metric):.2f} ± {spread(group, metric):.2f}" for metric in METRICS]
        table.add_row(values, ",".join(str(run.seed) for run in group), *scores)
    return table


def mean(runs: list[Run], metric: str) -> float:
    """Average a metric over runs.

    Args:
        runs: runs that differ by their seed.
        metric: name of the metric.

    Returns:
        The mean in percent.
    """
    return statistics.fmean(100 * run.metrics[metric] for run in runs)


def spread(runs: list[Run], metric: str) -> float:
    """Compute half the range of a metric over runs.

    Args:
        runs: runs that differ by their seed.
        metric: name of the metric.

    Returns:
        Half the range in percent.
    """
    values = [100 * run.metrics[metric] for run in runs]
    return (max(values) - min(values)) / 2


if __name__ == "__main__":
    main()
