"""Conditions under which a training resumes from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrqm.checkpoint.folder import build_unloaded, load_checkpoint_config, load_training, read_weights
from mrqm.checkpoint.lookup import CheckpointError
from mrqm.config import Config
from mrqm.engine.optim import build_optimizer


def check_resumable(folder: Path, config: Config, classes: Sequence[str]) -> None:
    """Check that a training can resume from a checkpoint.

    Args:
        folder: folder of the checkpoint.
        config: configuration of the training.
        classes: class names in label order.

    Raises:
        CheckpointError: the checkpoint is incomplete, of another architecture or other classes, with other trainable
            parameters, or all epochs are done.
    """
    known = load_checkpoint_config(folder).data.classes
    if known != tuple(classes):
        raise CheckpointError(f"{folder}: its classes are {list(known or ())}, not {list(classes)}")
    model = build_unloaded(config, len(classes))
    read_weights(model, folder)
    training = load_training(folder)
    learning = [len(group["params"]) for group in build_optimizer(model, config.optim).param_groups]
    if learning != [len(group["params"]) for group in training["optimizer"]["param_groups"]]:
        raise CheckpointError(f"{folder}: other parameters were frozen or decayed")
    if training["epoch"] >= config.train.epochs:
        raise CheckpointError(f"{folder}: {training['epoch']} of train.epochs={config.train.epochs} are done")


def checkpoint_bytes(config: Config, num_classes: int) -> int:
    """Estimate the size of a checkpoint in bytes.

    A checkpoint holds the evaluated weights, the trained weights, and AdamW's two moments of all trainable parameters.

    Args:
        config: configuration of the training.
        num_classes: number of classes K.

    Returns:
        The size in bytes, without the small files.
    """
    model = build_unloaded(config, num_classes)
    build_optimizer(model, config.optim)  # freezes the parameters that it leaves out
    state = sum(tensor.nbytes for tensor in model.state_dict().values())
    return 2 * state + 2 * sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
