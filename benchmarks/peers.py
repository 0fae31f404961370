r"""Compare MRQM with its peers: same backbone, tiles, augmentation, batch, time and machine, one after the other.

    python benchmarks/peers.py -c configs/visdrone_mini.yaml --minutes 12 --device cpu --out peers.json \
        data.root=FOLDER model.backbone.weights=WEIGHTS.safetensors

The other DETRs need the extra `peers` (transformers). Everything runs in one process on all its threads, so
`scaling.num_workers` is 1 here. All models have the configuration's AdamW, warm-up, decay (over the minutes, not over
the epochs), moving average, precision and seed; `RATES` has the learning rates of peers that are better at other ones
than MRQM's. The minutes count training with its data loading, not evaluation. `peer_models` describes the peers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peer_training import OnStep, evaluate, moving_average, train
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import nn

from mrqm.config import Config, ConfigError, load_config
from mrqm.data import DataError, build_dataset, build_loader
from mrqm.engine.progress import DivergenceError, Progress
from mrqm.engine.trainer import Trainer
from mrqm.evaluation import Evaluator, build_protocol
from mrqm.models.backbone import build_backbone
from mrqm.structures.metric import read_metrics

OF_TRANSFORMERS = ("rtdetrv2", "dfine", "deformable_detr")
MODELS = ("mrqm", *OF_TRANSFORMERS, "fcos")

RATES: dict[str, dict[str, float]] = {
    "rtdetrv2": {"lr": 5e-4, "max_grad_norm": 0.1},  # keys of optim that differ from the configuration's
    "dfine": {"lr": 5e-4, "max_grad_norm": 0.1},
    "deformable_detr": {"lr": 5e-4, "max_grad_norm": 0.1},
    "fcos": {"lr": 1e-3},
}

console = Console()


@dataclass(frozen=True)
class Result:
    """The result of a model's training.

    Attributes:
        model: name of the model.
        parameters: number of parameters.
        seconds: seconds of training.
        images: number of images trained on.
        steps: optimizer steps.
        metrics: metrics of `CocoProtocol` by name.
    """

    model: str
    parameters: int
    seconds: float
    images: int
    steps: int
    metrics: dict[str, float]


def run_mrqm(config: Config, device: torch.device, on_step: OnStep) -> Result:
    """Train and evaluate MRQM.

    Args:
        config: configuration of the training.
        device: device to train on.
        on_step: function that is called with progress and loss after every step.

    Returns:
        Time, images and metrics.
    """
    trainer = Trainer(config, device)
    while not trainer.finished:
        trainer.train_epoch(lambda report: on_step(trainer.progress, report.losses["loss"]))
    metrics = {metric.name: metric.value for metric in read_metrics(trainer.evaluate())}
    return make_result("mrqm", trainer.model, trainer.progress, metrics)


def run_peer(name: str, config: Config, device: torch.device, on_step: OnStep) -> Result:
    """Train and evaluate a peer.

    Args:
        name: name of the peer, from `MODELS`.
        config: configuration of the training.
        device: device to train on.
        on_step: function that is called with progress and loss after every step.

    Returns:
        Time, images and metrics.
    """
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
    """Build a peer on a newly loaded backbone.

    Args:
        name: name of the peer, from `MODELS`.
        config: configuration with the backbone, MRQM's widths and depths.
        num_classes: number of classes.

    Returns:
        The peer.
    """
    backbone = build_backbone(config.model.backbone, channels_last=config.model.channels_last)
    # transformers takes seconds to import, and need not be installed without its models
    module = importlib.import_module("peer_detrs" if name in OF_TRANSFORMERS else "peer_models")
    return getattr(module, f"build_{name}")(config, backbone, num_classes)


def make_result(name: str, model: nn.Module, progress: Progress, metrics: dict[str, float]) -> Result:
    """Summarise a training.

    Args:
        name: name of the model.
        model: model whose parameters are counted.
        progress: progress at the end of the training.
        metrics: metrics by name.

    Returns:
        Time, images and metrics.
    """
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
    """Train and evaluate models one after the other; the JSON is written again after each, so that none is lost.

    Args:
        names: names of the models.
        config: configuration of all models.
        device: device to train on.
        out: path of the JSON; None for none.

    Returns:
        The results in the order of the names.
    """
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
    parser.add_argument(
        "--models", default=",".join(MODELS), help="models to train, in this order (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="path of a JSON file for the results")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the configuration")
    args = parser.parse_args()

    names, device = args.models.split(","), torch.device(args.device)
    if unknown := set(names) - set(MODELS):
        parser.error(f"--models: unknown {sorted(unknown)}; known: {', '.join(MODELS)}")
    if set(names) & set(OF_TRANSFORMERS) and importlib.util.find_spec("transformers") is None:
        parser.error(f"{', '.join(OF_TRANSFORMERS)} need transformers: pip install '.[peers]', or leave them out")
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
