"""The context of a sweep: its request, folder, sampler of trials, data and identity, each made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from rich.console import Console

from mrqm.config import Config
from mrqm.data import DetectionDataset
from pipelines.console.training_display import Display
from pipelines.preflight.inputs import check_inputs
from pipelines.registry.ancestors.source import AncestorOnDisk, ancestor_on_disk
from pipelines.storage.absolute_paths import with_absolute_paths
from pipelines.storage.ancestors import keep_ancestor
from pipelines.storage.data_cache import data_cache
from pipelines.storage.run_dir import RunFolder
from tune.space.init_choices import init_choices
from tune.space.sampling import ConfigSampler
from tune.space.schema import Space, load_space, sweep_config
from tune.state.fingerprint import SweepFingerprint, fingerprint_of


@dataclass(frozen=True)
class Request:
    """A sweep as the command line describes it.

    Attributes:
        config: path of the configuration.
        space: path of the space.
        words: overrides, `key=value`.
        add_trials: number of trials to add to a finished sweep.
        retry_failed: True to run failed trials again.
        dry_run: True to stop after the plan.
    """

    config: Path
    space: Path
    words: Sequence[str] = ()
    add_trials: int = 0
    retry_failed: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class SweepContext:
    """A sweep whose configuration and space were read and checked.

    Attributes:
        request: sweep as the command line describes it.
        config: configuration that all trials share.
        sampler: sampler of the trials, which has been checked.
        folder: folder of the sweep.
        fingerprint: fingerprint without the digests of the data.
        ancestors: detectors that trials start from, on this machine, once they were found.
    """

    request: Request
    config: Config
    sampler: ConfigSampler
    folder: RunFolder
    fingerprint: SweepFingerprint
    ancestors: tuple[AncestorOnDisk, ...] = ()

    @classmethod
    def of(cls, request: Request) -> Self:
        """Read and check what a request names.

        Raises:
            ConfigError, SpaceError: the configuration or the space cannot be used.
            StorageError: `output_dir` cannot be used.
        """
        space = load_space(request.space)
        config = with_absolute_paths(sweep_config(request.config, space, request.words))
        sampler = ConfigSampler(space, config)
        sampler.check()
        return cls(request, config, sampler, RunFolder(config), fingerprint_of(config, space))

    def with_ancestors(self, kept: ExitStack) -> Self:
        """Find every detector that `model.init` may name.

        Args:
            kept: context in which the detectors stay on this machine.

        Returns:
            The sweep with them, and with the digest of the one in the configuration.

        Raises:
            ConfigError: a detector cannot be used.
        """
        storage, sources = self.folder.storage, init_choices(self.space, self.sampler.values)
        opened = [ancestor_on_disk(source, storage, self.config.tracking) for source in sources]
        found = tuple(filter(None, map(kept.enter_context, opened)))
        shared = next((one.record for one in found if one.record.source == self.config.model.init), None)
        return replace(self, ancestors=found, fingerprint=self.fingerprint.with_init(shared))

    def keep_ancestors(self) -> None:
        """Copy the detectors to start from into the sweep's folder, from which the trials read them."""
        for ancestor in self.ancestors:
            keep_ancestor(self.folder.storage, ancestor.weights, ancestor.record)

    @property
    def space(self) -> Space:
        """Space of the sweep."""
        return self.sampler.space

    @property
    def gpus(self) -> int:
        """GPUs of one trial."""
        return self.config.scaling.max_workers if self.config.scaling.use_gpu else 0


@dataclass(frozen=True)
class Inputs:
    """The data of all trials.

    Attributes:
        datasets: data sets by split.
        fingerprint: fingerprint of the sweep with the digests of this data.
    """

    datasets: Mapping[str, DetectionDataset]
    fingerprint: SweepFingerprint


def read_inputs(sweep: SweepContext, console: Console, data: ExitStack) -> Inputs:
    """Read and check the data of the trials.

    Args:
        sweep: sweep whose data is read.
        console: console for progress and notes.
        data: context in which this node's copy of the data is kept.

    Returns:
        The data, and the fingerprint of the sweep with its digests.

    Raises:
        DataError: the data cannot be used.
    """
    with Display(console, []) as display:
        data.enter_context(data_cache(sweep.config.data, display.phase))
        datasets = check_inputs(sweep.config, display, sweep.ancestors)
        display.phase("computing the digests of the data")
        inputs = Inputs(datasets, sweep.fingerprint.with_data(datasets))
        display.phase("starting Ray")
        return inputs
