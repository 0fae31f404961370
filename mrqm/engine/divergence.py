"""A training step whose loss or gradient is no number, or whose loss exploded, kept for `mrqm replay FOLDER`.

model.safetensors   the weights before the step
batch.safetensors   images, masks and targets of one rank
config.yaml         of the training
fault.json          where it happened, the seed of its noise, and what was wrong
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mrqm.checkpoint.files import CONFIG, WEIGHTS
from mrqm.checkpoint.folder import load_checkpoint_config, load_model
from mrqm.checkpoint.lookup import CheckpointError
from mrqm.config import Config
from mrqm.losses.criterion import build_criterion, total_loss
from mrqm.ops.distributed import autocast
from mrqm.structures.batch import Batch

BATCH, FAULT = "batch.safetensors", "fault.json"


@dataclass(frozen=True)
class Divergence:
    """A step that went wrong.

    Attributes:
        epoch, step, rank: where.
        noise_seed: for `torch.manual_seed`, before the forward pass.
        losses: of this rank.
        not_finite: names of losses, or `gradient`; none if the loss exploded.
        usual_loss: that an exploded loss was too many times as high as.
    """

    epoch: int
    step: int
    rank: int
    noise_seed: int
    losses: dict[str, float]
    not_finite: tuple[str, ...]
    median_loss: float | None = None

    @property
    def what(self) -> str:
        """What was wrong, in words."""
        if self.median_loss is not None:
            return f"the loss is {self.losses['loss']:.4g}, usually {self.median_loss:.4g}"
        return f"{', '.join(self.not_finite)} not finite"


@dataclass(frozen=True)
class Replay:
    """What the same step does now.

    Attributes:
        fault: as it was kept.
        losses: now.
        gradient_norm: now.
        first_bad_module: the first part of the model whose output is not finite; None if all are.
    """

    fault: Divergence
    losses: dict[str, float]
    gradient_norm: float
    first_bad_module: str | None


def save_divergence(
    folder: Path, model: nn.Module, batches: Sequence[Batch], config: Config, fault: Divergence
) -> None:
    """Keep a step; `batches` are the parts it was accumulated from.

    Raises:
        OSError: the disk is full, gone or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
        save_file(dict(_flatten(batches)), folder / BATCH)
    except SafetensorError as error:  # what the library makes of a disk's error
        raise OSError(f"{folder}: {error}") from error
    (folder / CONFIG).write_text(config.to_yaml())
    (folder / FAULT).write_text(json.dumps(asdict(fault), indent=2))


def replay(folder: Path, device: torch.device) -> Replay:
    """Run a kept step again, forward and backward, in one process and from the same noise.

    Raises:
        CheckpointError: the folder holds no step.
    """
    if not (folder / FAULT).is_file():
        raise CheckpointError(f"{folder}: no kept step: it has no {FAULT}")
    content = json.loads((folder / FAULT).read_text())
    fault = Divergence(**{**content, "not_finite": tuple(content["not_finite"])})
    config = load_checkpoint_config(folder)
    model = load_model(folder, config).to(device).train()
    first_bad = _watch(model)
    criterion = build_criterion(config.loss)
    torch.manual_seed(fault.noise_seed)
    sums: dict[str, float] = {}
    batches = _unflatten(load_file(folder / BATCH, device=str(device)))
    for images, masks, targets in batches:
        with autocast(config, device):
            outputs = model(images, masks, targets)
        losses = criterion(outputs, targets)
        total = total_loss(losses, config.loss)
        (total / len(batches)).backward()
        for name, value in {"loss": total, **losses}.items():
            sums[name] = sums.get(name, 0.0) + value.item() / len(batches)
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]).item()
    return Replay(fault, sums, norm, first_bad[0] if first_bad else None)


def not_finite(losses: dict[str, float]) -> tuple[str, ...]:
    """Names of the losses that are no numbers."""
    return tuple(name for name, value in losses.items() if not math.isfinite(value))


def _watch(model: nn.Module) -> list[str]:
    """A list that will hold the names of modules whose output is not finite, in the order of the forward pass."""
    found: list[str] = []
    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda _, __, output, name=name: (
                    found.append(name) if isinstance(output, Tensor) and not output.isfinite().all() else None
                )
            )
    return found


def _flatten(batches: Sequence[Batch]) -> list[tuple[str, Tensor]]:
    named: list[tuple[str, Tensor]] = []
    for part, (images, masks, targets) in enumerate(batches):
        named.append((f"{part}.images", images))
        if masks is not None:
            named.append((f"{part}.masks", masks))
        for index, target in enumerate(targets):
            named += [(f"{part}.targets.{index}.{key}", value.contiguous()) for key, value in target.items()]
    return named


def _unflatten(tensors: dict[str, Tensor]) -> list[Batch]:
    parts: dict[int, Batch] = {}
    for name in sorted(tensors, key=lambda name: int(name.partition(".")[0])):
        part, kind, *rest = name.split(".")
        images, masks, targets = parts.get(int(part), (torch.empty(0), None, []))
        if kind == "images":
            images = tensors[name]
        elif kind == "masks":
            masks = tensors[name]
        else:
            index, key = int(rest[0]), rest[1]
            targets.extend({} for _ in range(index + 1 - len(targets)))
            targets[index][key] = tensors[name]
        parts[int(part)] = (images, masks, targets)
    return [parts[part] for part in sorted(parts)]
