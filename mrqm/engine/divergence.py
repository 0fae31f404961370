"""Training steps with a loss or gradient that is not finite, or a loss spike, saved for `mrqm replay FOLDER`.

model.safetensors   weights before the step
batch.safetensors   images, masks and targets of one rank
config.yaml         configuration of the training
divergence.json          position of the step, seed of its noise, and the divergence
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

BATCH, DIVERGENCE = "batch.safetensors", "divergence.json"


@dataclass(frozen=True)
class Divergence:
    """Training step with a loss or gradient that is not finite, or a loss spike.

    Attributes:
        epoch, step, rank: position of the step; epoch and step count from 1.
        noise_seed: seed for `torch.manual_seed` before the forward pass.
        losses: losses of this rank.
        not_finite: names of losses, or `gradient`; empty for a loss spike.
        median_loss: median of the recent losses, which a loss spike exceeds by `train.loss_spike_factor`; else None.
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
        """Description of the divergence."""
        if self.median_loss is not None:
            return f"the loss is {self.losses['loss']:.4g}, usually {self.median_loss:.4g}"
        return f"{', '.join(self.not_finite)} not finite"


@dataclass(frozen=True)
class Replay:
    """Result of repeating a saved step.

    Attributes:
        divergence: saved step.
        losses: losses of the repetition.
        gradient_norm: norm of the gradient in the repetition.
        first_bad_module: name of the first module whose output is not finite; None if all are finite.
    """

    divergence: Divergence
    losses: dict[str, float]
    gradient_norm: float
    first_bad_module: str | None


def save_divergence(
    folder: Path, model: nn.Module, batches: Sequence[Batch], config: Config, divergence: Divergence
) -> None:
    """Save a step so that `replay` can repeat it.

    Args:
        folder: destination, which is created.
        model: model with the weights before the step.
        batches: batches that the step was accumulated from.
        config: configuration of the training.
        divergence: description of the step.

    Raises:
        OSError: the disk is full, gone or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
        save_file(dict(_flatten(batches)), folder / BATCH)
    except SafetensorError as error:  # the library's type for a disk's error
        raise OSError(f"{folder}: {error}") from error
    (folder / CONFIG).write_text(config.to_yaml())
    (folder / DIVERGENCE).write_text(json.dumps(asdict(divergence), indent=2))


def replay(folder: Path, device: torch.device) -> Replay:
    """Repeat a saved step, forward and backward, in one process and with the same noise.

    Args:
        folder: folder of one rank that `save_divergence` wrote.
        device: device of the computation.

    Returns:
        Losses and gradient of the repetition.

    Raises:
        CheckpointError: the folder holds no step.
    """
    if not (folder / DIVERGENCE).is_file():
        raise CheckpointError(f"{folder}: no kept step: it has no {DIVERGENCE}")
    content = json.loads((folder / DIVERGENCE).read_text())
    divergence = Divergence(**{**content, "not_finite": tuple(content["not_finite"])})
    config = load_checkpoint_config(folder)
    model = load_model(folder, config).to(device).train()
    first_bad = _record_bad_modules(model)
    criterion = build_criterion(config.loss)
    torch.manual_seed(divergence.noise_seed)
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
    return Replay(divergence, sums, norm, first_bad[0] if first_bad else None)


def not_finite(losses: dict[str, float]) -> tuple[str, ...]:
    """List the names of the losses that are NaN or infinite."""
    return tuple(name for name, value in losses.items() if not math.isfinite(value))


def _record_bad_modules(model: nn.Module) -> list[str]:
    """Return a list that the forward pass fills with the names of modules whose output is not finite, in order."""
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
