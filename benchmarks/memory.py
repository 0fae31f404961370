"""Peak memory and seconds of one training step with 10, 100, 1,000 and 2,000 objects in one image.

    python benchmarks/memory.py -c configs/visdrone_r50.yaml
    python benchmarks/memory.py -c configs/visdrone_r50.yaml --device cuda train.precision=bfloat16

Every count runs in a process of its own on a random image with random boxes of 6 to 40 px, through forward, losses,
backward, optimizer and moving average; the second of two steps is timed. The backbone has random weights. On the CPU
the peak is that of the whole process (resident memory, about 0.5 GB of it imports); on a GPU it is what PyTorch has
allocated. It is bounded when it does not grow with the objects beyond the caps of the configuration.
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
from timm.utils import ModelEmaV3

from mrqm.config import Config, ConfigError, load_config
from mrqm.criterion import build_criterion
from mrqm.data.loader import Batch
from mrqm.learner import Learner
from mrqm.models.mrqm import build_model
from mrqm.optim import Schedule, build_optimizer

COUNTS = (10, 100, 1000, 2000)
CLASSES = 10


def make_batch(objects: int, size: int) -> Batch:
    """One image (1, 3, size, size) with that many objects."""
    generator = torch.Generator().manual_seed(objects)
    sides = (6 + 34 * torch.rand(objects, 2, generator=generator)) / size
    centers = sides / 2 + (1 - sides) * torch.rand(objects, 2, generator=generator)
    target = {
        "boxes": torch.cat([centers, sides], 1),
        "labels": torch.randint(CLASSES, (objects,), generator=generator),
        "ignore_boxes": torch.zeros(0, 4),
        "ignore_labels": torch.zeros(0, dtype=torch.int64),
        "image_id": torch.tensor(0),
        "orig_size": torch.tensor([size, size]),
        "size": torch.tensor([size, size]),
    }
    return torch.randint(256, (1, 3, size, size), dtype=torch.uint8, generator=generator), None, [target]


def build_learner(config: Config, device: torch.device) -> Learner:
    """A model with all that teaches it, as `Trainer` builds it."""
    torch.manual_seed(0)
    model = build_model(config, CLASSES).to(device).train()
    optimizer = build_optimizer(model, config.optim)
    return Learner(
        model=model,
        criterion=build_criterion(config.loss),
        optimizer=optimizer,
        schedule=Schedule(optimizer, config.optim),
        ema=ModelEmaV3(model, config.optim.ema_decay) if config.optim.ema_decay else None,
        config=config,
        device=device,
    )


def measure(config: Config, device: torch.device, objects: int, size: int) -> dict[str, float]:
    """Peak memory in MB, and seconds, of a training step."""
    learner, batch = build_learner(config, device), make_batch(objects, size)
    for step in range(2):
        start = time.perf_counter()
        losses = learner.backward([batch])
        learner.update(step, progress=0.5)
        loss = losses["loss"].item()  # waits for the device
        seconds = time.perf_counter() - start
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 1e6
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return {"peak": peak, "seconds": seconds, "loss": loss}


def measure_apart(objects: int, arguments: list[str]) -> dict[str, float] | None:
    """`measure` in a process of its own; None when it failed, out of memory or otherwise."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments, "--only", str(objects)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("--size", type=int, default=800, help="side of the image in px")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", type=int, metavar="OBJECTS", help="this count alone, in this process, as JSON")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the configuration")
    args = parser.parse_args()

    random_backbone = ["model.backbone.weights=none", "model.backbone.frozen_batch_norm=false"]
    try:
        config = load_config(args.config, [*random_backbone, *args.overrides])
    except ConfigError as error:
        parser.exit(2, f"{error}\n")
    if args.only is not None:
        print(json.dumps(measure(config, torch.device(args.device), args.only, args.size)))
        return
    console, table = Console(), Table(box=SIMPLE)
    for column in ("objects", "peak MB", "seconds", "loss"):
        table.add_column(column, justify="right")
    for objects in COUNTS:
        with console.status(f"one step with {objects:,} objects"):
            result = measure_apart(objects, sys.argv[1:])
        cells = ["failed", "", ""] if result is None else [f"{result[key]:.1f}" for key in ("peak", "seconds", "loss")]
        table.add_row(str(objects), *cells)
    print(f"one training step, one {args.size}×{args.size} image, {args.config}, {args.device}")
    console.print(table)


if __name__ == "__main__":
    main()
