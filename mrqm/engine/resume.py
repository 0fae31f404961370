"""Conditions under which a training resumes from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrqm.checkpoint.folder import build_unloaded, load_checkpoint_config, load_training, read_weights
from mrqm.checkpoint.lookup import CheckpointError
from mrqm.config import Config
from mrqm.engine.optim import build_optimizer


def check_resumable(folder: Path, config: Config, classes: Sequence[str]) -> None:
    """Find out whether a training of this configuration and of these classes can go on from a checkpoint.

    Raises:
        CheckpointError: it is not whole, of another architecture or other classes, other parameters learned, or all
            of the epochs are done.
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
    """How large a checkpoint of this configuration is, nearly.

    It holds the weights, the same again as they are trained, and AdamW's two moments of those that learn.
    """
    model = build_unloaded(config, num_classes)
    build_optimizer(model, config.optim)  # which freezes what it leaves out
    state = sum(tensor.nbytes for tensor in model.state_dict().values())
    return 2 * state + 2 * sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
