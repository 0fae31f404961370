"""Measure what each augmentation costs: milliseconds of one processor per tile, from decoded images in memory.

    python benchmarks/augmentation.py FOLDER [--tile 640] [--overlap 100] [--scale 1] [--tiles 60] [--rounds 5]

FOLDER holds VisDrone's layout with a training split. Every augmentation is always applied and is the only one. The
augmentations take turns, round by round, so that other load on the machine affects all alike; the mean tile counts, in
time of the processor.
The first round is not measured: it decodes images and, for copies, the objects of the epoch.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import mean

import torch
from rich.console import Console
from rich.table import Table

from mrqm.config import make_config
from mrqm.data import DetectionDataset, build_dataset
from mrqm.data.augmentation.source import Draw

ALONE = {
    "none": "{horizontal_flip: 0}",
    "horizontal_flip": "{horizontal_flip: 1}",
    "vertical_flip": "{horizontal_flip: 0, vertical_flip: 1}",
    "quarter_turns": "{horizontal_flip: 0, quarter_turns: 1}",
    "scale_jitter": "{horizontal_flip: 0, scale_jitter: [0.8, 1.25]}",
    "random_crop": "{horizontal_flip: 0, random_crop: true}",
    "color_jitter": "{horizontal_flip: 0, color_jitter: 0.3}",
    "grayscale": "{horizontal_flip: 0, grayscale: 1}",
    "blur": "{horizontal_flip: 0, blur: 1}",
    "noise": "{horizontal_flip: 0, noise: 1}",
    "jpeg": "{horizontal_flip: 0, jpeg: 1}",
    "mosaic": "{horizontal_flip: 0, mosaic: 1}",
    "mixup": "{horizontal_flip: 0, mixup: 1}",
    "copy_paste": "{horizontal_flip: 0, copy_paste: {probability: 1}}",
}
"""Settings of `data.augment` by name."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", default="VisDrone2019-DET-train", help="training folder under FOLDER")
    parser.add_argument("--tile", type=int, default=640)
    parser.add_argument("--overlap", type=int, default=100)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--tiles", type=int, default=60, help="number of tiles in a round")
    parser.add_argument("--rounds", type=int, default=5, help="number of measured rounds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    datasets = {name: build(args, augment) for name, augment in ALONE.items()}
    times: dict[str, list[float]] = {name: [] for name in ALONE}
    for round_number in range(1 + args.rounds):
        for name, dataset in datasets.items():
            measured = read(dataset, args.tiles)
            if round_number:
                times[name] += measured
    base = mean(times["none"])
    table = Table("data.augment", "ms per tile", "ms more than none", title=f"tiles of {args.tile} px")
    for name, seconds in times.items():
        table.add_row(name, f"{1000 * mean(seconds):.2f}", f"{1000 * (mean(seconds) - base):.2f}")
    Console().print(table)


def build(args: argparse.Namespace, augment: str) -> DetectionDataset:
    """Build the training data with an augmentation.

    Args:
        args: arguments of the command.
        augment: settings of `data.augment`.

    Returns:
        The data set.
    """
    data = {
        "root": args.folder,
        "train": args.train,
        "scale": args.scale,
        "tile": {"size": args.tile, "overlap": args.overlap},
        "cache_mb": 1024,
    }
    return build_dataset(make_config({"data": data}, [f"data.augment={augment}"]), "train")


def read(dataset: DetectionDataset, tiles: int) -> list[float]:
    """Measure the seconds of each of some tiles, the same in every round.

    Args:
        dataset: data to read.
        tiles: number of tiles.

    Returns:
        Seconds of the processor for each tile.
    """
    seconds = []
    for index in range(0, len(dataset), max(1, len(dataset) // tiles)):
        begin = time.process_time()
        _ = dataset[Draw(0, index)]
        seconds.append(time.process_time() - begin)
    return seconds


if __name__ == "__main__":
    main()
