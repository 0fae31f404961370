"""The identity of a sweep: the fingerprint of its trainings, and its space. A sweep resumes only if both match."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import yaml

from mrqm.config import Config
from mrqm.config.dotted import lies_in
from pipelines.storage.fingerprint import Fingerprint, begin, configured_fields
from pipelines.storage.run_dir import RunError, RunFolder
from tune.space.compatibility import find_differences
from tune.space.schema import Space, load_space
from tune.state.journal import JOURNAL, read_history


class SweepFingerprint(Fingerprint):
    """The identity of a sweep.

    Attributes:
        space: space of the sweep; None if it is not known.
    """

    KIND: ClassVar[str] = "sweep"

    kind: Literal["run", "sweep"] = "sweep"
    space: Space | None

    @property
    def own_space(self) -> Space:
        """The space of a sweep that is about to run."""
        assert self.space is not None, "only a former sweep's space may be unknown"
        return self.space

    def differences(self, former: Self) -> list[str]:
        """List the differences that make this another sweep; more trials, hours and wider ranges do not."""
        lines, space = super().differences(former), self.own_space
        if former.mrqm is None:  # its settings are those of one trial
            searched = {key for params in (space.parameters, *space.points_to_evaluate) for key in params}
            lines = [line for line in lines if not any(lies_in(line.partition(":")[0], key) for key in searched)]
        return [*lines, *(find_differences(former.space, space) if former.space else ())]

    @classmethod
    def before_fingerprints(cls, folder: RunFolder) -> Self | None:
        """Make the fingerprint of an earlier version's sweep from its space and the configuration of a trial."""
        began = bool(read_history(folder.path / JOURNAL).trials)
        if not began and folder.storage.read("config.yaml") is not None:
            raise RunError(f"{folder.storage.url} is a run, not a sweep; choose another name")
        if not began:
            return None
        space = folder.path / "space.yaml"
        trial = next(folder.path.glob("trial-*/epoch_*/config.yaml"), None)
        return cls(
            mrqm=None,
            settings=yaml.safe_load(trial.read_text()) if trial else None,
            protocol=None,
            space=load_space(space) if space.is_file() else None,
        )


def fingerprint_of(config: Config, space: Space) -> SweepFingerprint:
    """Make the fingerprint of a sweep, as far as it is known before its data is read.

    Args:
        config: configuration that all trials share.
        space: space of the sweep.

    Returns:
        Fingerprint without the digests of the data.
    """
    return SweepFingerprint(**configured_fields(config), space=space)


def begin_sweep(config: Config, folder: RunFolder, now: SweepFingerprint) -> None:
    """Write the identity of a sweep, perhaps with a wider space, into its folder.

    Args:
        config: configuration that all trials share.
        folder: folder of the sweep.
        now: fingerprint with the digests of the data.

    Raises:
        RunError: the folder belongs to another run or sweep.
    """
    begin(config, folder, now)
    folder.storage.write("space.yaml", now.own_space.to_yaml())
