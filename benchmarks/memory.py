"""Measure peak memory and seconds of one training step with 10, 100, 1,000 and 2,000 objects in one image.

    python benchmarks/memory.py -c configs/visdrone_r50.yaml
    python benchmarks/memory.py -c configs/visdrone_r50.yaml --device cuda train.precision=bfloat16

Every count runs in a process of its own on a random image with random boxes of 6 to 40 px, through forward, losses,
backward, optimizer and moving average; the second of two steps is timed. The backbone has random weights. The peak is
the growth of the process's resident memory since the imports on the CPU, and PyTorch's allocated memory on a GPU. It
should not grow with the objects beyond the caps of the configuration. The next column is the prediction of `mrqm plan`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mrqm.config import Config, ConfigError, load_config
from mrqm.engine.memory import HeaviestBatch, build_train_state, make_batch, predict_step_memory

COUNTS = (10, 100, 1000, 2000)
CLASSES = 10


def measure(config: Config, device: torch.device, objects: int, size: int) -> dict[str, float]:
    """Measure a training step in this process.

    Args:
        config: configuration of the model and its training.
        device: device to train on.
        objects: number of objects in the image.
        size: side of the image in px.

    Returns:
        Peak and predicted memory in MB, seconds, and loss.
    """
    before = _resident_bytes()
    state, batch = build_train_state(config, CLASSES, device), make_batch(objects, (size, size), CLASSES)
    for step in range(2):
        start = time.perf_counter()
        losses = state.backward([batch])
        state.update(step, progress=0.5)
        loss = losses["loss"].item()  # waits for the device
        seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident_bytes() - before
    predicted = predict_step_memory(config, CLASSES, HeaviestBatch(1, (size, size), objects, padded=size % 32 > 0))
    return {"peak": peak / 1e6, "predicted": predicted.total / 1e6, "seconds": seconds, "loss": loss}


def _resident_bytes() -> int:
    """Return the largest resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure_apart(objects: int, arguments: list[str]) -> dict[str, float] | None:
    """Run `measure` in a process of its own.

    Args:
        objects: number of objects in the image.
        arguments: arguments of this command.

    Returns:
        The measurements; None if the process failed, out of memory or otherwise.
    """
    command = [sys.executable, str(Path(__file__).resolve()), *arguments, "--only", str(objects)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("--size", type=int, default=800, help="side of the image in px")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--only", type=int, metavar="OBJECTS", help="measure this count alone, in this process, and print JSON"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the configuration")
    args = parser.parse_args()

    random_backbone = [
        "model.backbone.weights=none",
        "model.backbone.frozen_batch_norm=false",
        "model.backbone.frozen_stages=0",
    ]
    try:
        config = load_config(args.config, [*random_backbone, *args.overrides])
    except ConfigError as error:
        parser.exit(2, f"{error}\n")
    if args.only is not None:
        print(json.dumps(measure(config, torch.device(args.device), args.only, args.size)))
        return
    console, table = Console(), Table(box=SIMPLE)
    for column in ("objects", "peak MB", "predicted MB", "seconds", "loss"):
        table.add_column(column, justify="right")
    for objects in COUNTS:
        with console.status(f"one step with {objects:,} objects"):
            result = measure_apart(objects, sys.argv[1:])
        columns = ("peak", "predicted", "seconds", "loss")
        cells = ["failed", "", "", ""] if result is None else [f"{result[key]:.1f}" for key in columns]
        table.add_row(str(objects), *cells)
    print(f"one training step, one {args.size}×{args.size} image, {args.config}, {args.device}")
    console.print(table)


if __name__ == "__main__":
    main()
