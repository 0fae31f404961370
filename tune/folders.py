"""Checkpoints in the folders of trials: runs/demo-mrqm/trial-0003/epoch_0005."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path


def keep_only(trial: Path, kept: Iterable[Path]) -> None:
    """Remove all other checkpoints of a trial, unfinished ones too."""
    wanted = set(kept)
    for path in (*trial.glob("epoch_*"), *trial.glob(".epoch_*")):
        if path not in wanted:
            shutil.rmtree(path)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a checkpoint; one of that name that was left by a process that died is replaced."""
    unfinished = target.with_name(f".{target.name}")
    for path in (unfinished, target):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(source, unfinished)
    unfinished.rename(target)
