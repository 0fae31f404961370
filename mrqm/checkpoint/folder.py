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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mrqm.checkpoint.files import CONFIG, METRICS, TRAINING, WEIGHTS
from mrqm.checkpoint.lookup import CheckpointError, find_checkpoint
from mrqm.config import Config, load_config
from mrqm.data import read_classes
from mrqm.data.formats.readers import name_class_numbers
from mrqm.models.mrqm import MRQM, build_model


@dataclass(frozen=True)
class Snapshot:
    """A moment of a training in memory of its own: the training goes on while this is written.

    Attributes:
        weights: to predict with.
        training: what only continuing needs.
        config: of the training.
        metrics: known so far.
    """

    weights: dict[str, Tensor]
    training: dict[str, Any]
    config: Config
    metrics: dict[str, float]

    def write(self, folder: Path) -> None:
        """Write a checkpoint's folder.

        Raises:
            OSError: the disk is full, gone or not writable.
        """
        save_checkpoint(folder, self.weights, self.training, self.config, self.metrics)


def save_checkpoint(
    folder: Path, weights: dict[str, Tensor], training: dict[str, Any], config: Config, metrics: dict[str, float]
) -> None:
    """Write a checkpoint into `folder`, which is made.

    Raises:
        OSError: the disk is full, gone or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
        torch.save(training, folder / TRAINING)
    except (SafetensorError, RuntimeError) as error:  # what the libraries make of a disk's error
        raise OSError(f"{folder}: {error}") from error
    (folder / CONFIG).write_text(config.to_yaml())
    (folder / METRICS).write_text(json.dumps(metrics, indent=2))


def copy_to_host(value: Any) -> Any:
    """A copy of nested tensors in the host's memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copy_to_host(item) for key, item in value.items()}
    return [copy_to_host(item) for item in value] if isinstance(value, list) else value


def load_checkpoint_config(folder: Path, overrides: tuple[str, ...] = ()) -> Config:
    """The configuration a checkpoint was trained with.

    Args:
        folder: of the checkpoint.
        overrides: settings that win over it; the classes keep their order, which is that of the weights.

    Raises:
        CheckpointError: the folder is no checkpoint, or `data.classes` has other names than it.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder}: not a checkpoint folder: it has no {CONFIG}")
    trained, config = load_config(folder / CONFIG), load_config(folder / CONFIG, overrides)
    known, named = trained.data.classes, config.data.classes
    if named is not None and known is not None and sorted(named) != sorted(known):
        raise CheckpointError(f"data.classes is {list(named)}, but {folder} was trained on {list(known)}; leave it out")
    return config.with_classes(known)


def adopt_class_order(config: Config) -> Config:
    """The configuration of a training that begins from a checkpoint, with the classes in the checkpoint's order.

    As it is where that cannot be: there is no such checkpoint or it has other classes, which is refused later, or the
    order of `data.classes` is all that says what the numbers in the annotations mean.

    Raises:
        DataError: the classes have to be read from the training data and cannot be.
    """
    if config.train.resume in ("auto", "never"):
        return config
    try:
        checkpoint = find_checkpoint(config.train.resume)
    except CheckpointError:
        return config
    known, classes = load_config(checkpoint / CONFIG).data.classes or (), read_classes(config)
    if sorted(known) != sorted(classes):
        return config
    data, folder = config.data, config.data.folder / config.data.train
    numbers = {name_class_numbers(data.format, folder, order) for order in (known, classes)}
    return config.with_classes(known) if len(numbers) == 1 else config


def load_model(folder: Path, config: Config) -> MRQM:
    """The trained model, built without its pretrained backbone weights.

    Raises:
        CheckpointError: the weights are missing, unreadable or of another architecture.
    """
    assert config.data.classes is not None, "checkpoints name their classes"
    detector = build_unloaded(config, len(config.data.classes))
    load_weights(detector, folder)
    return detector


def build_unloaded(config: Config, num_classes: int) -> MRQM:
    """The model of a configuration with random weights, whatever its backbone's would be."""
    backbone = config.model.backbone.model_copy(update={"weights": "none"})
    model = config.model.model_copy(update={"backbone": backbone})
    return build_model(config.model_copy(update={"model": model}), num_classes)


def load_weights(model: nn.Module, folder: Path) -> None:
    """Load a checkpoint's weights in place.

    Raises:
        CheckpointError: the weights are missing, unreadable or of another architecture.
    """
    model.load_state_dict(read_weights(model, folder))


def read_weights(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """A checkpoint's weights, which fit the model.

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
    return weights


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
