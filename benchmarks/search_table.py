"""Train configurations of a grid for a few epochs and keep each epoch's AP, as a table for search_efficiency.py.

    mrqm demo-data data/demo-table --train 32 --val 12
    OMP_NUM_THREADS=1 python benchmarks/search_table.py data/demo-table

A line is written when its configuration is done, and the same command continues with the missing ones. Their order is
random, so that the first ones are spread over the grid: `--runs 48` trains no more than that.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch

from mrqm.config import Config
from mrqm.engine.trainer import Trainer
from tune.space.sampling import ConfigSampler
from tune.space.schema import Space, load_space, sweep_config

FOLDER = Path(__file__).parent
SPACE, TABLE = FOLDER / "search_space.yaml", FOLDER / "search_table.jsonl"
CONFIG = FOLDER.parent / "configs" / "demo.yaml"


class Row(TypedDict):
    """A configuration's values by dotted key, and AP and seconds of each of its epochs."""

    params: dict[str, Any]
    ap: list[float]
    seconds: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the demo data")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--runs", type=int, help="most configurations to train; by default all of the grid")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as trials that run at the same time; sums, and so AP, depend on it
    sampler = ConfigSampler(*load_grid(arguments.data))
    grid = list(sampler.grid())
    done = [row["params"] for row in read_table(arguments.table)]
    if strange := [params for params in done if params not in grid]:
        sys.exit(f"{arguments.table}: {strange[0]} is not in {SPACE.name}; remove the file or give another as --table")
    wanted = random.Random(0).sample(grid, len(grid))[: arguments.runs]
    for number, params in enumerate(wanted, 1):
        if params in done:
            continue
        row = train(sampler.config(params), params)
        with arguments.table.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{number}/{len(wanted)}  {params}  AP {row['ap']}  {sum(row['seconds']):.0f} s", flush=True)


def load_grid(data: Path = Path("data")) -> tuple[Space, Config]:
    """Load the grid, and the configuration whose keys it sets."""
    space = load_space(SPACE)
    weights = data / "tf_efficientnet_lite0.safetensors"
    return space, sweep_config(CONFIG, space, [f"data.root={data}", f"model.backbone.weights={weights}"])


def read_table(path: Path = TABLE) -> list[Row]:
    """Read the rows of a table; none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def train(config: Config, params: Mapping[str, Any]) -> Row:
    """Train a configuration, for a row of the table.

    Args:
        config: configuration to train.
        params: values of the searched keys, by dotted key.

    Returns:
        The row, with AP and seconds of each epoch.
    """
    trainer = Trainer(config, torch.device("cpu"))
    row = Row(params=dict(params), ap=[], seconds=[])
    while not trainer.finished:
        began = time.perf_counter()
        trainer.train_epoch()
        row["ap"].append(round(trainer.evaluate()["coco/AP"], 5))
        row["seconds"].append(round(time.perf_counter() - began, 1))
    return row


if __name__ == "__main__":
    main()
