"""Variants of a configuration trained for equally many steps, over seeds: which losses and weights serve it best.

    OMP_NUM_THREADS=1 python benchmarks/losses.py -c configs/visdrone_mini.yaml --steps 334 --out losses.jsonl \\
        --vary loss.classification=focal,quality_focal --vary loss.weights.classification=1,2,4 --seeds 0,1 \\
        data.root=FOLDER model.backbone.weights=WEIGHTS.safetensors

Every combination of the varied keys' values is trained on one CPU thread with each seed and evaluated once, in the end.
Learning rates decay over the steps, not over the epochs. Variants of a loss cost the same, so that equal steps are
equal time, on a machine that is busy otherwise too. A line of `--out` is written when its run is done; the same command
goes on with those that are missing, and `--runs 1` trains no more than one of them. The table has every run in `--out`.
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
from mrqm.progress import DivergenceError
from mrqm.trainer import Trainer

METRICS = ("AP", "AP50", "AP_small")


@dataclass(frozen=True)
class Run:
    """What came of one training.

    Attributes:
        variant: `key=value` settings that were varied, as given.
        seed: of the training.
        steps: optimizer steps.
        config: digest of the whole configuration; a run with the same one and as many steps is not repeated.
        seconds: spent training.
        metrics: of the validation data; see `CocoEvaluator`.
    """

    variant: list[str]
    seed: int
    steps: int
    config: str
    seconds: float
    metrics: dict[str, float]


def main() -> None:
    args = parse_arguments()
    variants = [list(pairs) for pairs in itertools.product(*args.vary)]
    torch.set_num_threads(1)
    console = Console()
    try:
        wanted = [
            (variant, load_config(args.config, [*args.overrides, *variant, *alone(seed)]))
            for variant in variants
            for seed in args.seeds
        ]
        done = read_runs(args.out)
        missing = [(variant, config) for variant, config in wanted if (digest(config), args.steps) not in done]
        for variant, config in missing[: args.runs]:
            run = train(variant, config, args.steps)
            done[run.config, run.steps] = run
            with args.out.open("a") as file:
                file.write(json.dumps(asdict(run)) + "\n")
            scores = ", ".join(f"{name} {100 * run.metrics[name]:.2f}" for name in METRICS)
            console.print(f"{' '.join(variant)} seed {run.seed}: {scores}, {run.seconds:.0f} s")
    except (ConfigError, DataError, DivergenceError) as error:
        raise SystemExit(f"losses.py: {error}") from error
    console.print(make_table(list(done.values())))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=True, help="YAML file")
    parser.add_argument("--steps", type=int, required=True, help="optimizer steps of each run")
    parser.add_argument("--vary", type=choices, action="append", default=[], metavar="key=value,…", help="repeatable")
    parser.add_argument("--seeds", type=numbers, default=[0, 1], metavar="N,…", help="default: 0,1")
    parser.add_argument("--runs", type=int, help="at most; by default all that are missing")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one for each run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the configuration")
    return parser.parse_args()


def choices(text: str) -> list[str]:
    """`key=a,b` as `key=a`, `key=b`."""
    key, _, values = text.partition("=")
    return [f"{key}={value}" for value in values.split(",")]


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def alone(seed: int) -> list[str]:
    """Overrides for one process that is ended by its steps."""
    return [f"train.seed={seed}", "scaling.num_workers=1", "train.epochs=1000000", "train.max_minutes=null"]


def read_runs(path: Path) -> dict[tuple[str, int], Run]:
    """Runs that are done, by configuration and steps."""
    lines = path.read_text().splitlines() if path.is_file() else []
    runs = [Run(**json.loads(line)) for line in lines]
    return {(run.config, run.steps): run for run in runs}


def digest(config: Config) -> str:
    """Identity of a configuration."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:12]


def train(variant: list[str], config: Config, steps: int) -> Run:
    trainer = Trainer(config, torch.device("cpu"))
    trainer.progress.total_steps = steps
    while not trainer.finished:
        trainer.train_epoch()
    seconds = trainer.progress.elapsed_seconds
    return Run(variant, config.train.seed, steps, digest(config), round(seconds, 1), trainer.evaluate())


def make_table(runs: list[Run]) -> Table:
    """Mean and range over seeds of each variant, best AP first."""
    table = Table(box=SIMPLE, pad_edge=False)
    for column in ("variant", "steps", "seeds", *METRICS):
        table.add_column(column, justify="left" if column == "variant" else "right")
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((" ".join(run.variant), run.steps), []).append(run)

    def mean(group: list[Run], name: str) -> float:
        return statistics.fmean(100 * run.metrics[name] for run in group)

    for (variant, steps), group in sorted(groups.items(), key=lambda item: -mean(item[1], "AP")):
        scores = []
        for name in METRICS:
            values = [100 * run.metrics[name] for run in group]
            scores.append(f"{mean(group, name):.2f} ± {(max(values) - min(values)) / 2:.2f}")
        table.add_row(variant, str(steps), ",".join(str(run.seed) for run in group), *scores)
    return table


if __name__ == "__main__":
    main()
