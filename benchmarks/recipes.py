"""Print what each shipped recipe costs: parameters, FLOPs, predicted memory of training, images per second.

    OMP_NUM_THREADS=1 python benchmarks/recipes.py             # all of configs/
    python benchmarks/recipes.py configs/visdrone_fast.yaml --device cuda

Everything is for square inputs of the recipe's own tiles, of 800 px where it has none. The memory is what `mrqm plan`
predicts for a step of the recipe's batch on one worker, with 100 objects in every image. Images per second are the
fastest of some forward passes of one image, without reading and merging. Backbones have random weights.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mrqm.checkpoint.folder import build_unloaded
from mrqm.config import Config, load_config
from mrqm.engine.cost import model_cost
from mrqm.engine.memory import HeaviestBatch, predict_step_memory
from mrqm.models.mrqm import MRQM
from mrqm.ops.distributed import autocast

ROOT = Path(__file__).parents[1]
CLASSES, OBJECTS, WHOLE_SIDE = 10, 100, 800
COLUMNS = ("recipe", "input", "million parameters", "GFLOP", "training GB", "images/s")


def input_side(config: Config) -> int:
    """Return the side of the square input in px that stands for a recipe's images."""
    return config.data.tile.size if config.data.tile else WHOLE_SIDE


def measure_speed(model: MRQM, config: Config, side: int, device: torch.device, seconds: float) -> float:
    """Measure forward passes of one image.

    Args:
        model: detector in evaluation mode on the device.
        config: configuration of the model.
        side: side of the image in px.
        device: device to run on.
        seconds: least time of all passes after the first, which warms up.

    Returns:
        Images per second of the fastest pass.
    """
    fastest, image = float("inf"), torch.rand(1, 3, side, side, device=device)
    with torch.inference_mode(), autocast(config, device):
        model(image)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or fastest == float("inf"):
            start = time.perf_counter()
            model(image)["pred_boxes"].cpu()  # waits for the device
            fastest = min(fastest, time.perf_counter() - start)
    return 1 / fastest


def describe(path: Path, device: torch.device, seconds: float) -> list[str]:
    """Compute a recipe's row of the table.

    Args:
        path: file of the configuration.
        device: device that is measured.
        seconds: least time of the measured passes.

    Returns:
        The cells, in the order of `COLUMNS`.
    """
    config = load_config(path)
    side, model = input_side(config), build_unloaded(config, CLASSES).to(device).eval()
    speed = measure_speed(model, config, side, device, seconds)
    cost = model_cost(model, (side, side))
    batch = HeaviestBatch(config.train.batch_size, (side, side), OBJECTS, padded=side % 32 > 0)
    memory = predict_step_memory(config, CLASSES, batch).total
    return [
        config.name, f"{side} px", f"{cost.parameters / 1e6:.1f}", f"{cost.flops / 1e9:,.1f}", f"{memory / 1e9:.1f}",
        f"{speed:.3g}",
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=Path, nargs="*", default=sorted((ROOT / "configs").glob("*.yaml")))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=2.0, help="least time of the measured passes")
    args = parser.parse_args()
    console, table = Console(), Table(box=SIMPLE, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "recipe" else "right")
    for path in args.recipes:
        with console.status(path.stem):
            table.add_row(*describe(path, torch.device(args.device), args.seconds))
    console.print(table)


if __name__ == "__main__":
    main()
