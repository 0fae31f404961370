r"""MRQM and its peers trained one after the other: same backbone, tiles, augmentation, batch, time and machine.

    python benchmarks/peers.py -c configs/visdrone_mini.yaml --minutes 12 --device cpu --out peers.json \
        data.root=FOLDER model.backbone.weights=WEIGHTS.safetensors

The other DETRs need the extra `peers` (transformers). Everything runs in one process on all its threads, so
`scaling.num_workers` is 1 here. Everyone gets the configuration's AdamW, warm-up, decay (over the minutes, not over the
epochs), moving average, precision and seed; where a peer does better at other rates than MRQM's, `RATES` has them. The
minutes count training with its data loading, not evaluation. How the peers are built is told in `peer_models`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mrqm.config import Config, ConfigError, load_config
from mrqm.data import DataError, DetectionLoader, build_dataset, build_loader
from mrqm.engine.optim import Schedule, build_optimizer
from mrqm.engine.progress import DivergenceError, Progress
from mrqm.engine.trainer import Trainer
from mrqm.evaluation import Evaluator, build_protocol
from mrqm.models.backbone import build_backbone
from mrqm.ops.distributed import to_device

OF_TRANSFORMERS = ("rtdetrv2", "dfine", "deformable_detr")
MODELS = ("mrqm", *OF_TRANSFORMERS, "fcos")

RATES: dict[str, dict[str, float]] = {
    "rtdetrv2": {"lr": 5e-4, "max_grad_norm": 0.1},  # of optim, where a peer's differ from the configuration's
    "dfine": {"lr": 5e-4, "max_grad_norm": 0.1},
    "deformable_detr": {"lr": 5e-4, "max_grad_norm": 0.1},
    "fcos": {"lr": 1e-3},
}

console = Console()
OnStep = Callable[[Progress, float], None]
Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True)
class Result:
    """What a model made of its time; `metrics` are those of `CocoProtocol`."""

    model: str
    parameters: int
    seconds: float
    images: int
    steps: int
    metrics: dict[str, float]


def run_mrqm(config: Config, device: torch.device, on_step: OnStep) -> Result:
    trainer = Trainer(config, device)
    while not trainer.finished:
        trainer.train_epoch(lambda report: on_step(trainer.progress, report.losses["loss"]))
    return make_result("mrqm", trainer.model, trainer.progress, trainer.evaluate())


def run_peer(name: str, config: Config, device: torch.device, on_step: OnStep) -> Result:
    optim = config.optim.model_copy(update=RATES[name])
    config = config.model_copy(update={"optim": optim})
    train_data, val_data = build_dataset(config, "train"), build_dataset(config, "val")
    torch.manual_seed(config.train.seed)
    peer = build_peer(name, config, len(train_data.classes)).to(device)
    average = moving_average(peer, config.optim.ema_decay)
    progress = train(peer, average, build_loader(config, train_data, training=True), config, device, on_step)
    protocol = build_protocol("coco", config.evaluation)
    evaluator = Evaluator(protocol, val_data.classes, val_data.scored_record)
    metrics = evaluate(average.module, build_loader(config, val_data, training=False), evaluator, device)
    return make_result(name, peer, progress, metrics)


def build_peer(name: str, config: Config, num_classes: int) -> Any:
    """The peer of that name on a freshly loaded backbone."""
    backbone = build_backbone(config.model.backbone, channels_last=config.model.channels_last)
    # transformers takes seconds to import, and need not be there without its models
    module = importlib.import_module("peer_detrs" if name in OF_TRANSFORMERS else "peer_models")
    return getattr(module, f"build_{name}")(config, backbone, num_classes)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """MRQM's moving average of weights and statistics, for models whose heads share weights."""

    def average(averages: Tensors, values: Tensors, steps: Tensor | int) -> None:
        if averages[0].is_floating_point():
            warmed_up = min(decay, 1 - (1 + int(steps)) ** (-2 / 3))
            torch._foreach_lerp_(averages, values, 1 - warmed_up)
        else:
            torch._foreach_copy_(averages, values)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def train(
    peer: Any,
    average: AveragedModel,
    loader: DetectionLoader,
    config: Config,
    device: torch.device,
    on_step: OnStep,
) -> Progress:
    """Train until the time is up; the clock is MRQM's, running while batches are loaded and steps are taken."""
    progress = Progress(config.train.epochs * len(loader), 60 * (config.train.max_minutes or math.inf))
    optimizer = build_optimizer(nn.ModuleDict({"backbone": peer.backbone, "detector": peer}), config.optim)
    schedule = Schedule(optimizer, config.optim)
    peer.train()
    epoch = 0
    while progress.share < 1:
        loader.set_epoch(epoch)
        begin, before = time.perf_counter(), progress.elapsed_seconds
        for batch in loader:
            schedule.set(progress.step, progress.share)
            images, targets = unpadded(batch, device)
            loss = peer.loss(images, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(peer.parameters(), config.optim.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average.update_parameters(peer)
            if not math.isfinite(value := loss.item()):
                raise DivergenceError(f"step {progress.step}: the loss is {value}")
            progress.step += 1
            progress.images_seen += len(targets)
            progress.elapsed_seconds = before + time.perf_counter() - begin
            on_step(progress, value)
            if progress.share >= 1:
                break
        epoch += 1
    return progress


@torch.no_grad()
def evaluate(peer: Any, loader: DetectionLoader, evaluator: Evaluator, device: torch.device) -> dict[str, float]:
    peer.eval()
    for batch in loader:
        images, targets = unpadded(batch, device)
        evaluator.update(peer.detect(images, targets), targets)
    return evaluator.compute()


def unpadded(batch: Any, device: torch.device) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Images (B, 3, H, W) in [0, 1] and targets on the device.

    Raises:
        ValueError: images are padded, of which the peers know nothing.
    """
    images, masks, targets = to_device(batch, device)
    if masks is not None:
        raise ConfigError("the peers take images without padding: set data.tile.size to a multiple of 32")
    return images.float() / 255, targets


def make_result(name: str, model: nn.Module, progress: Progress, metrics: dict[str, float]) -> Result:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Result(name, parameters, progress.elapsed_seconds, progress.images_seen, progress.step, metrics)


def make_table(results: list[Result]) -> Table:
    table = Table(box=SIMPLE, pad_edge=False)  # within 80 columns
    for column in ("model", "params", "seconds", "images", "img/s", "AP", "AP50", "AP_small"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for result in results:
        scores = [f"{100 * result.metrics.get(key, math.nan):.2f}" for key in ("AP", "AP50", "AP_small")]
        speed = f"{result.images / result.seconds:.1f}"
        millions = f"{result.parameters / 1e6:.2f}M"
        table.add_row(result.model, millions, f"{result.seconds:.0f}", str(result.images), speed, *scores)
    return table


def compare(names: list[str], config: Config, device: torch.device, out: Path | None) -> list[Result]:
    """Run the models in turn; the JSON is rewritten after each, so that a broken run leaves what it has."""
    results: list[Result] = []
    for name in names:
        with console.status(name) as status:

            def show(progress: Progress, loss: float, name: str = name, status: Any = status) -> None:
                seconds = f"{progress.elapsed_seconds:.0f} of {progress.max_seconds:.0f} s"
                status.update(f"{name}: {seconds}, step {progress.step}, loss {loss:.3f}")

            run = run_mrqm(config, device, show) if name == "mrqm" else run_peer(name, config, device, show)
        results.append(run)
        console.print(f"{name}: AP {100 * run.metrics['AP']:.2f}, {run.steps} steps, {run.seconds:.0f} s")
        if out is not None:
            document = {
                "device": device_name(device),
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "rates": RATES,
                "config": config.model_dump(mode="json"),
                "results": [asdict(result) for result in results],
            }
            out.write_text(json.dumps(document, indent=1))
    return results


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=True, help="YAML file; the peers take widths and schedule from it")
    parser.add_argument("--minutes", type=float, default=12, help="training time of each model")
    parser.add_argument("--models", default=",".join(MODELS), help="which, in which order (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="also write everything as JSON")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the configuration")
    args = parser.parse_args()

    names, device = args.models.split(","), torch.device(args.device)
    if unknown := set(names) - set(MODELS):
        parser.error(f"--models: unknown {sorted(unknown)}; known: {', '.join(MODELS)}")
    if set(names) & set(OF_TRANSFORMERS) and importlib.util.find_spec("transformers") is None:
        parser.error(
            f"{', '.join(OF_TRANSFORMERS)} are those of transformers: pip install '.[peers]', or leave them out"
        )
    alone = [
        "scaling.num_workers=1",
        "train.gradient_accumulation_steps=1",
        "train.epochs=1000000",
        f"train.max_minutes={args.minutes}",
    ]
    try:
        config = load_config(args.config, [*args.overrides, *alone])
        results = compare(names, config, device, args.out)
    except (ConfigError, DataError, DivergenceError) as error:
        parser.exit(2, f"{error}\n")
    console.print(f"{args.minutes:g} minutes each on {device_name(device)}", make_table(results), sep="\n")


if __name__ == "__main__":
    main()
