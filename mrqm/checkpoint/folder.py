"""Checkpoints as folders, without pickles.

    model.safetensors   weights for inference: the moving average where there is one
    training.pt         state for resuming only: tensors and plain values, loaded with weights_only=True
    config.yaml         resolved configuration, including class names
    metrics.json        metrics of the evaluation

A folder is enough to evaluate, predict or register on another machine. Loading it executes no code from it.
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

from mrqm.checkpoint.ancestor import describe_weights
from mrqm.checkpoint.files import CONFIG, METRICS, TRAINING, WEIGHTS
from mrqm.checkpoint.lookup import CheckpointError, find_checkpoint
from mrqm.config import Config, load_config
from mrqm.data import read_classes
from mrqm.data.formats.readers import name_class_numbers
from mrqm.models.mrqm import MRQM, build_model


@dataclass(frozen=True)
class Snapshot:
    """Copy of a training's state in host memory, so that the training continues while the copy is written.

    Attributes:
        weights: weights for inference.
        training: state for resuming; see `Trainer.save`.
        config: configuration of the training.
        metrics: metrics known so far.
    """

    weights: dict[str, Tensor]
    training: dict[str, Any]
    config: Config
    metrics: dict[str, float]

    def write(self, folder: Path) -> None:
        """Write the snapshot as a checkpoint folder.

        Raises:
            OSError: the disk is full, gone or not writable.
        """
        save_checkpoint(folder, self.weights, self.training, self.config, self.metrics)


def save_checkpoint(
    folder: Path, weights: dict[str, Tensor], training: dict[str, Any], config: Config, metrics: dict[str, float]
) -> None:
    """Write a checkpoint folder.

    Args:
        folder: destination, which is created.
        weights: weights for inference, by parameter name.
        training: state for resuming: tensors and plain values.
        config: resolved configuration, including class names.
        metrics: metrics of the evaluation; empty before the first.

    Raises:
        OSError: the disk is full, gone or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        save_file(
            {name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS, describe_weights(config)
        )
        torch.save(training, folder / TRAINING)
    except (SafetensorError, RuntimeError) as error:  # the libraries' types for a disk's error
        raise OSError(f"{folder}: {error}") from error
    (folder / CONFIG).write_text(config.to_yaml())
    (folder / METRICS).write_text(json.dumps(metrics, indent=2))


def copy_to_host(value: Any) -> Any:
    """Copy nested tensors into host memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copy_to_host(item) for key, item in value.items()}
    return [copy_to_host(item) for item in value] if isinstance(value, list) else value


def load_checkpoint_config(folder: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read the configuration that a checkpoint was trained with.

    Args:
        folder: folder of the checkpoint.
        overrides: `key.path=value` settings that replace its values; the order of the classes stays that of the
            weights.

    Returns:
        The configuration with class names in the order of the weights.

    Raises:
        CheckpointError: the folder is no checkpoint, or `data.classes` has other names than the checkpoint.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder}: not a checkpoint folder: it has no {CONFIG}")
    trained, config = load_config(folder / CONFIG), load_config(folder / CONFIG, overrides)
    known, named = trained.data.classes, config.data.classes
    if named is not None and known is not None and sorted(named) != sorted(known):
        raise CheckpointError(f"data.classes is {list(named)}, but {folder} was trained on {list(known)}; leave it out")
    return config.with_classes(known)


def adopt_class_order(config: Config) -> Config:
    """Order the classes of a training that starts from a checkpoint as the checkpoint does.

    The configuration is returned unchanged if there is no such checkpoint or it has other classes, which is refused
    later, or if only the order of `data.classes` defines the meaning of the annotations' class numbers.

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
    """Build the trained model of a checkpoint, without loading pretrained backbone weights first.

    Args:
        folder: folder of the checkpoint.
        config: configuration of the checkpoint, with class names.

    Returns:
        The model with the checkpoint's weights, in training mode.

    Raises:
        CheckpointError: the weights are missing, unreadable or of another architecture.
    """
    assert config.data.classes is not None, "checkpoints name their classes"
    detector = build_unloaded(config, len(config.data.classes))
    load_weights(detector, folder)
    return detector


def build_unloaded(config: Config, num_classes: int) -> MRQM:
    """Build the model of a configuration with random weights, ignoring `model.backbone.weights`.

    Args:
        config: configuration of the model.
        num_classes: number of classes K.

    Returns:
        The model with random weights.
    """
    backbone = config.model.backbone.model_copy(update={"weights": "none"})
    model = config.model.model_copy(update={"backbone": backbone})
    return build_model(config.model_copy(update={"model": model}), num_classes)


def load_weights(model: nn.Module, folder: Path) -> None:
    """Load a checkpoint's weights into a model in place.

    Args:
        model: model of the checkpoint's architecture.
        folder: folder of the checkpoint.

    Raises:
        CheckpointError: the weights are missing, unreadable or of another architecture.
    """
    model.load_state_dict(read_weights(model, folder))


def read_weights(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """Read a checkpoint's weights and check that they fit a model.

    Args:
        model: model of the checkpoint's architecture; it is not changed.
        folder: folder of the checkpoint.

    Returns:
        The weights by parameter name, on the CPU.

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
    """Read the training state that `Trainer.save` writes beside the weights.

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
    """Check that tensors have the names and shapes of a model's.

    Args:
        wanted: state of the model by parameter name.
        found: tensors that were read.
        path: file that they were read from, for the message.

    Raises:
        CheckpointError: tensors are missing, left over or of another shape; the message names up to five of them.
    """
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
