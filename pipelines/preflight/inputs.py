"""Checks of a training's inputs that take seconds, before anything expensive starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrqm.check import Check, check
from mrqm.checkpoint.folder import adopt_class_order
from mrqm.checkpoint.lookup import CheckpointError, find_checkpoint
from mrqm.config import Config, ConfigError
from mrqm.data import DetectionDataset, build_dataset
from mrqm.data.formats.splits import SPLITS
from mrqm.engine.resume import check_resumable, checkpoint_bytes
from mrqm.models.backbone import build_backbone
from pipelines.console.training_display import Display
from pipelines.registry.ancestors.source import AncestorOnDisk, ancestor_on_disk
from pipelines.storage.ancestors import AncestorRecord
from pipelines.storage.run_dir import RunFolder


def check_inputs(
    config: Config, display: Display, ancestors: Sequence[AncestorOnDisk] = ()
) -> dict[str, DetectionDataset]:
    """Read all inputs of the workers, so that errors are reported before they start.

    Args:
        config: training configuration.
        display: display of the training.
        ancestors: detectors that the training, or trials of the sweep, start from.

    Returns:
        Data sets by split.

    Raises:
        ConfigError, DataError: an input cannot be used.
    """
    origin = check_backbone(config)
    if config.model.init is None and Path(config.model.backbone.weights).is_file():
        display.line(f"{'backbone':<10}{config.model.backbone.name}: {origin}")
    display.phase("reading annotations")
    config = adopt_class_order(config)
    datasets: dict[str, DetectionDataset] = {split: build_dataset(config, split) for split in SPLITS}
    for split, data in datasets.items():
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in data.describe().items())
        display.line(f"{split:<10}{counts}, {len(data.classes)} classes")
        if repairs := data.annotations.repairs.summary():
            display.note(f"{split}: {repairs}")
    check_resume(config, datasets["train"].classes)
    for ancestor in ancestors:
        report = ancestor.check(config, datasets["train"].classes)
        display.line(f"{'init':<10}{ancestor.describe()}: {report.describe()}")
    return datasets


def check_backbone(config: Config) -> str:
    """Build the backbone and load its weights, downloaded if necessary, unless those of `model.init` replace them.

    Returns:
        Description of the weights.

    Raises:
        ConfigError: the backbone or its weights are not available.
    """
    backbone = config.model.backbone
    if config.model.init is not None:
        backbone = backbone.model_copy(update={"weights": "none"})
    origin = build_backbone(backbone, channels_last=config.model.channels_last).origin
    return origin if config.model.init is None else "weights of model.init"


def check_init(config: Config, source: str, classes: Sequence[str] | None) -> tuple[Check, AncestorRecord | None]:
    """Check that a training can start from a trained detector.

    Args:
        config: training configuration.
        source: value of `model.init`.
        classes: names in label order; None if the data cannot be read.

    Returns:
        Row of the plan, and the origin of the weights if they were found.
    """
    record: AncestorRecord | None = None

    def inspect() -> str:
        nonlocal record
        with ancestor_on_disk(source, RunFolder(config).storage, config.tracking) as ancestor:
            assert ancestor is not None, "a source is named"
            record = ancestor.record
            if classes is None:
                return f"{ancestor.describe()}; its classes are compared once the data can be read"
            return f"{ancestor.describe()}: {ancestor.check(config, classes).describe()}"

    return check("init", inspect), record


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
            f"train.resume cannot be used: {error}; give a complete checkpoint of the same model and classes, or auto; "
            f"to start a new training from its weights, set model.init={resume} instead"
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
