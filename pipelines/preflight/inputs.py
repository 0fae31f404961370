"""Checks of a training's inputs that take seconds, before anything expensive starts."""

from __future__ import annotations

from collections.abc import Sequence

from mrqm.checkpoint.folder import adopt_class_order
from mrqm.checkpoint.lookup import CheckpointError, find_checkpoint
from mrqm.config import Config, ConfigError
from mrqm.data import DetectionDataset, build_dataset
from mrqm.data.formats.splits import SPLITS
from mrqm.engine.resume import check_resumable, checkpoint_bytes
from mrqm.models.backbone import build_backbone
from pipelines.console.training_display import Display
from pipelines.storage.run_dir import RunFolder


def check_inputs(config: Config, display: Display) -> dict[str, DetectionDataset]:
    """Read all inputs of the workers, so that errors are reported before they start.

    Args:
        config: training configuration.
        display: display of the training.

    Returns:
        Data sets by split.
    """
    check_backbone(config)
    display.phase("reading annotations")
    config = adopt_class_order(config)
    datasets: dict[str, DetectionDataset] = {split: build_dataset(config, split) for split in SPLITS}
    for split, data in datasets.items():
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in data.describe().items())
        display.line(f"{split:<10}{counts}, {len(data.classes)} classes")
        if repairs := data.annotations.repairs.summary():
            display.note(f"{split}: {repairs}")
    check_resume(config, datasets["train"].classes)
    return datasets


def check_backbone(config: Config) -> None:
    """Build the backbone and load its weights, downloaded if necessary.

    Raises:
        ConfigError: the backbone or its weights are not available.
    """
    build_backbone(config.model.backbone, channels_last=config.model.channels_last)


def check_resume(config: Config, classes: Sequence[str]) -> None:
    """Check that the checkpoint of `train.resume`, if there is one, fits the run.

    Args:
        config: training configuration.
        classes: names in label order.

    Raises:
        ConfigError: the checkpoint cannot be read or does not fit.
    """
    resume = config.train.resume
    if resume in ("auto", "never"):
        return
    try:
        check_resumable(find_checkpoint(resume), config, classes)
    except CheckpointError as error:
        raise ConfigError(
            f"train.resume cannot be used: {error}; give a complete checkpoint of the same model and classes, or auto"
        ) from error


def check_space(config: Config, folder: RunFolder) -> tuple[int, int]:
    """Check that the checkpoints of a training have room.

    Args:
        config: training configuration.
        folder: folder of the run.

    Returns:
        Maximum number of checkpoints still to be written, and the bytes of one.

    Raises:
        StorageError: the disk has too little free space.
    """
    size = checkpoint_bytes(config, len(config.data.classes or "?"))
    at_once = config.train.num_checkpoints_to_keep + 2  # the best, the latest and the one being written
    missing = max(1, at_once - len(folder.checkpoints.newest_first()))
    folder.require_space(missing * size, size)
    return missing, size
