"""The checkpoints in the folders of trials: runs/demo-mrqm/trial-0003/epoch_0005."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from pipelines.storage.filesystem import open_storage
from tune.space.schema import Space
from tune.state.history import History, Trial

logger = logging.getLogger(__name__)


def keep_only(trial: Path, kept: Iterable[Path]) -> None:
    """Remove all other checkpoints of a trial, unfinished ones too.

    Args:
        trial: folder of the trial.
        kept: folders of the checkpoints to keep.
    """
    wanted = set(kept)
    for path in (*trial.glob("epoch_*"), *trial.glob(".epoch_*")):
        if path not in wanted:
            try:
                shutil.rmtree(path)
            except OSError as error:  # the next call tries again
                logger.warning("an unneeded checkpoint could not be removed: %s", error)


def remove_unneeded(folder: Path, history: History, space: Space, reported: Trial) -> None:
    """Remove checkpoints that are not needed any more, except those of other running trials.

    Args:
        folder: folder of the sweep.
        history: history of the sweep.
        space: space of the sweep, with the number of best trials to keep.
        reported: trial that has just reported.
    """
    objective = space.objective[0]
    best = history.best_trials(objective)[: space.keep_trials]
    for trial in history.trials:
        if trial.state == "running" and trial is not reported:
            continue
        kept = [trial.checkpoint] if trial.state in ("running", "failed") else []
        if (trial in best or trial.state == "running") and (result := trial.best(objective)):
            kept.append(result.checkpoint)
        keep_only(folder / trial.name, [folder / path for path in kept if path])


def copy_whole(source: Path, target: Path) -> None:
    """Copy a checkpoint and replace an existing one; a failed copy leaves nothing.

    Args:
        source: folder of the checkpoint.
        target: folder of the copy.

    Raises:
        OSError: the disk is full or unavailable.
    """
    storage = open_storage(str(target.parent.parent), target.parent.name)
    with storage.scratch_folder(target.name) as unfinished:
        for file in source.iterdir():
            shutil.copy2(file, unfinished)
        storage.upload_folder(unfinished, target.name)
