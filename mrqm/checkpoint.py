"""Checkpoints are folders, not pickles.

    model.safetensors   the weights to predict with: the moving average where there is one
    training.pt         what only continuing needs: tensors and plain values, loaded with weights_only=True
    config.yaml         the resolved configuration, class names included
    metrics.json        what the model scored

A folder is enough to evaluate, predict or register on another machine. Loading executes nothing from it.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mrqm.config import Config, load_config
from mrqm.models.mrqm import MRQM, build_model

WEIGHTS, TRAINING, CONFIG, METRICS = "model.safetensors", "training.pt", "config.yaml", "metrics.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file."""


def save_checkpoint(
    folder: Path, weights: dict[str, Tensor], training: dict[str, Any], config: Config, metrics: dict[str, float]
) -> None:
    """Write a checkpoint into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    torch.save(training, folder / TRAINING)
    (folder / CONFIG).write_text(config.to_yaml())
    (folder / METRICS).write_text(json.dumps(metrics, indent=2))


def load_checkpoint_config(folder: Path, overrides: tuple[str, ...] = ()) -> Config:
    """The configuration a checkpoint was trained with.

    Raises:
        CheckpointError: the folder is no checkpoint.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder}: not a checkpoint folder: it has no {CONFIG}")
    return load_config(folder / CONFIG, overrides)


def load_model(folder: Path, config: Config) -> MRQM:
    """The trained model, built without its pretrained backbone weights.

    Raises:
        CheckpointError: the weights are missing, unreadable or of another architecture.
    """
    assert config.data.classes is not None, "checkpoints name their classes"
    backbone = config.model.backbone.model_copy(update={"weights": "none"})
    model = config.model.model_copy(update={"backbone": backbone})
    detector = build_model(config.model_copy(update={"model": model}), len(config.data.classes))
    load_weights(detector, folder)
    return detector


def load_weights(model: nn.Module, folder: Path) -> None:
    """Load a checkpoint's weights in place.

    Raises:
        CheckpointError: the weights are missing, unreadable or of another architecture.
    """
    path = folder / WEIGHTS
    try:
        weights = load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    check_fit(model.state_dict(), weights, path)
    model.load_state_dict(weights)


def load_training(folder: Path) -> dict[str, Any]:
    """What `Trainer.save` keeps beside the weights.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    path = folder / TRAINING
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: damaged or not a checkpoint: {error}") from error


def check_fit(wanted: dict[str, Tensor], found: dict[str, Tensor], path: Path) -> None:
    """Raise a `CheckpointError` that names the tensors of `found` that are missing, left over or of another shape."""
    faults = [f"{name}: missing" for name in wanted.keys() - found.keys()]
    faults += [f"{name}: not in the model" for name in found.keys() - wanted.keys()]
    faults += [
        f"{name}: shape {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted.keys() & found.keys()
        if wanted[name].shape != found[name].shape
    ]
    if faults:
        shown = "; ".join(sorted(faults)[:5]) + (" …" if len(faults) > 5 else "")
        raise CheckpointError(f"{path}: {len(faults)} of {len(wanted)} tensors do not fit the model: {shown}")
