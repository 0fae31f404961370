"""A sweep as rows of `mrqm plan`: how many trials, how many at once, and what their checkpoints take."""

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
from tune.space.sampling import ConfigSampler
from tune.space.schema import load_space, sweep_config
from tune.state.fingerprint import fingerprint_of


class SweepToPlan:
    """A sweep that would be run.

    Args:
        config: file of the configuration.
        space: file of the space.
        words: overrides of the command line.

    Attributes:
        config: that all trials share.
        largest: of the trial that takes most.
        fingerprint: what it is, before its data is read.

    Raises:
        ConfigError, SpaceError: there is no such sweep.
    """

    def __init__(self, config: Path, space: Path, words: Sequence[str]) -> None:
        loaded = load_space(space)
        self.config = with_absolute_paths(sweep_config(config, loaded, words))
        self._candidates = ConfigSampler(loaded, self.config)
        self._candidates.check()
        self.largest: Config = largest_config(self._candidates)
        self.fingerprint: Fingerprint = fingerprint_of(self.config, loaded)

    def checks(self, nodes: Sequence[Mapping[str, float]]) -> list[Check]:
        """Its trials and their disk."""
        plan = make_plan(self._candidates, self.config, nodes)
        each = describe_resources(self.config.scaling)
        trials = f"{plan.trials} of {plan.epochs} epochs, {plan.at_once} at once, each on {each}"
        status = Check("trials", "ok", trials)
        if not nodes:
            trials = f"{plan.trials} of {plan.epochs} epochs, each on {each}"
            status = Check("trials", "warning", f"{trials}; nobody knows how many at once", "see the row `cluster`")
        elif not plan.at_once:
            status = Check("trials", "error", f"{trials}: not one fits", "see the row `cluster`")

        def look_for_space() -> str:
            folder = RunFolder(self.config)
            folder.require_space(plan.disk_bytes, plan.checkpoint_bytes)
            return (
                f"at most {plan.checkpoints} checkpoints × {naturalsize(plan.checkpoint_bytes)} = "
                f"{naturalsize(plan.disk_bytes)}"
            )

        return [status, check("disk", look_for_space)]
