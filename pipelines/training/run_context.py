"""The context of a training's driver: its folder with storage and checkpoints, its data and identity."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from mrqm.config import Config
from mrqm.data import DetectionDataset
from pipelines.console.training_display import Display
from pipelines.preflight.inputs import check_inputs, check_space
from pipelines.storage.data_cache import data_cache
from pipelines.storage.fingerprint import Fingerprint, fingerprint_of, require_same
from pipelines.storage.run_dir import RunFolder


@dataclass(frozen=True)
class RunContext:
    """A run whose inputs were read and checked.

    Attributes:
        config: training configuration.
        folder: folder of the run, with its storage and checkpoints.
        datasets: data sets by split.
        fingerprint: complete fingerprint, data included.
    """

    config: Config
    folder: RunFolder
    datasets: Mapping[str, DetectionDataset]
    fingerprint: Fingerprint


def read_inputs(config: Config, folder: RunFolder, display: Display, data: ExitStack) -> RunContext:
    """Read and check the inputs of a run.

    Args:
        config: training configuration.
        folder: folder of the run, which this process has locked.
        display: display of the training.
        data: context in which this node's copy of the data is kept.

    Returns:
        The run with its data and complete fingerprint.

    Raises:
        DataError: the data cannot be used.
        RunError: the folder has another run.
        StorageError: the checkpoints have no room.
    """
    data.enter_context(data_cache(config.data, display.phase))
    datasets = check_inputs(config, display)
    check_space(config, folder)
    display.phase("computing the digests of the data")
    fingerprint = fingerprint_of(config).with_data(datasets)
    require_same(config, folder, fingerprint)
    return RunContext(config, folder, datasets, fingerprint)
