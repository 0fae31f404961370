"""The rows of `mrqm plan` for a sweep: its trials, their concurrency, and the disk space of their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from humanize import naturalsize

from mrqm.check import Check, check
from mrqm.config import Config
from pipelines.compute.resources import describe_resources
from pipelines.storage.absolute_paths import with_absolute_paths
from pipelines.storage.fingerprint import Fingerprint
from pipelines.storage.run_dir import RunFolder
from tune.report.plan import largest_config, make_plan
from tune.space.init_choices import init_choices
from tune.space.sampling import ConfigSampler
from tune.space.schema import load_space, sweep_config
from tune.state.fingerprint import fingerprint_of


class SweepToPlan:
    """A sweep to plan.

    Args:
        config: path of the configuration.
        space: path of the space.
        words: overrides of the command line.

    Attributes:
        config: configuration that all trials share.
        largest: configuration of the trial with the largest checkpoint.
        fingerprint: fingerprint of the sweep, before its data is read.
        ancestors: values of `model.init` that its trials may have.

    Raises:
        ConfigError, SpaceError: the configuration or the space cannot be used.
    """

    def __init__(self, config: Path, space: Path, words: Sequence[str]) -> None:
        loaded = load_space(space)
        self.config = with_absolute_paths(sweep_config(config, loaded, words))
        self._sampler = ConfigSampler(loaded, self.config)
        self._sampler.check()
        self.largest: Config = largest_config(self._sampler)
        self.fingerprint: Fingerprint = fingerprint_of(self.config, loaded)
        self.ancestors: Sequence[str] = init_choices(loaded, self._sampler.values)

    def checks(self, nodes: Sequence[Mapping[str, float]]) -> list[Check]:
        """Check the trials and their disk space on a cluster with these nodes' resources."""
        plan = make_plan(self._sampler, self.config, nodes)
        each = describe_resources(self.config.scaling)
        trials = f"{plan.trials} of {plan.epochs} epochs, {plan.at_once} at once, each on {each}"
        status = Check("trials", "ok", trials)
        if not nodes:
            trials = f"{plan.trials} of {plan.epochs} epochs, each on {each}"
            status = Check("trials", "warning", f"{trials}; the number at once is unknown", "see the row `cluster`")
        elif not plan.at_once:
            status = Check("trials", "error", f"{trials}: no trial fits", "see the row `cluster`")

        def check_space() -> str:
            folder = RunFolder(self.config)
            folder.require_space(plan.disk_bytes, plan.checkpoint_bytes)
            return (
                f"at most {plan.checkpoints} checkpoints × {naturalsize(plan.checkpoint_bytes)} = "
                f"{naturalsize(plan.disk_bytes)}"
            )

        return [status, check("disk", check_space)]
