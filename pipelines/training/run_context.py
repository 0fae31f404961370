"""The context of a training's driver: its folder with storage and checkpoints, its data and identity."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from mrqm.config import Config
from mrqm.data import DetectionDataset
from pipelines.console.training_display import Display
from pipelines.preflight.inputs import check_inputs, check_space
from pipelines.registry.ancestors.source import AncestorOnDisk
from pipelines.storage.ancestors import keep_ancestor
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
        ancestor: detector to start from, on this machine; None without `model.init`.
        fingerprint: complete fingerprint, data included.
    """

    config: Config
    folder: RunFolder
    datasets: Mapping[str, DetectionDataset]
    ancestor: AncestorOnDisk | None
    fingerprint: Fingerprint

    @property
    def stamp(self) -> dict[str, str]:
        """Tags of the run and its model: the conditions of its metrics, and the detector that it started from."""
        return self.fingerprint.stamp | (self.ancestor.record.tags if self.ancestor else {})

    def keep_ancestor(self) -> None:
        """Copy the detector to start from into the run's folder, from which the workers read it."""
        if self.ancestor:
            keep_ancestor(self.folder.storage, self.ancestor.weights, self.ancestor.record)


def read_inputs(
    config: Config, folder: RunFolder, ancestor: AncestorOnDisk | None, display: Display, data: ExitStack
) -> RunContext:
    """Read and check the inputs of a run.

    Args:
        config: training configuration.
        folder: folder of the run, which this process has locked.
        ancestor: detector to start from, on this machine; None without `model.init`.
        display: display of the training.
        data: context in which this node's copy of the data is kept.

    Returns:
        The run with its data and complete fingerprint.

    Raises:
        ConfigError: the backbone or the detector to start from cannot be used.
        DataError: the data cannot be used.
        RunError: the folder has another run.
        StorageError: the checkpoints have no room.
    """
    data.enter_context(data_cache(config.data, display.phase))
    datasets = check_inputs(config, display, [ancestor] if ancestor else [])
    check_space(config, folder)
    display.phase("computing the digests of the data")
    fingerprint = fingerprint_of(config).with_init(ancestor.record if ancestor else None).with_data(datasets)
    require_same(config, folder, fingerprint)
    return RunContext(config, folder, datasets, ancestor, fingerprint)
