"""Lookup of the checkpoint that a path refers to.

    runs/demo/epoch_0012    the checkpoint in this folder
    runs/demo               the best checkpoint of a run, or the newest if none was evaluated
    runs/demo/last          the newest checkpoint of a run

`epoch_0003` was written after three epochs, `epoch_0003_step_000350` within the fourth.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mrqm.checkpoint.files import CONFIG, METRICS, WEIGHTS
from mrqm.errors import UserError
from mrqm.structures.metric import VALIDATION, metric_key

NAME = re.compile(r"epoch_(\d+)(?:_step_(\d+))?")
LAST = "last"
SCORE = metric_key(VALIDATION, "AP")
"""Metric that selects the best checkpoint of a run; higher is better."""
SHOWN = 6
"""Most names that a message lists."""
STARTER = "starter"
"""Word for the detector that comes with the package, wherever a checkpoint is asked for."""
STARTER_FOLDER = Path(__file__).parent / "starter"


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message names the file."""


def find_checkpoint(path: str | Path) -> Path:
    """Find the folder of a checkpoint.

    Args:
        path: folder of a checkpoint or a run, the folder of a run followed by `last`, or `starter`, the detector that
            comes with the package.

    Returns:
        The folder of the checkpoint, which may lack files if it is damaged.

    Raises:
        CheckpointError: there is no such checkpoint; the message lists those nearby.
    """
    if str(path) == STARTER:
        return STARTER_FOLDER
    path = Path(path)
    if (path / CONFIG).is_file() and (path / WEIGHTS).is_file():
        return path
    if names := list_checkpoints(path):
        scores = {name: score_of(_read_metrics(path / name)) for name in names}
        return path / (best_of(scores) or names[0])
    if path.name == LAST and not path.exists() and (names := list_checkpoints(path.parent)):
        return path.parent / names[0]
    if (path / CONFIG).is_file() and (NAME.fullmatch(path.name) or (path / METRICS).is_file()):
        return path  # damaged: loading it reports the missing file
    raise CheckpointError(f"{path}: {_describe_fault(path)}{_describe_others(path)}")


def list_checkpoints(run: Path) -> list[str]:
    """List the names of the checkpoints in a run's folder, newest first."""
    if not run.is_dir():
        return []
    whole = [path.name for path in run.iterdir() if (path / CONFIG).is_file() and (path / WEIGHTS).is_file()]
    return newest_first(whole)


def newest_first(names: Iterable[str]) -> list[str]:
    """Select the names of checkpoints and sort them, newest first."""
    return sorted(filter(NAME.fullmatch, names), key=position, reverse=True)


def position(name: str) -> tuple[int, int]:
    """Return the completed epochs of a checkpoint and the run's step within the next epoch, 0 between epochs."""
    epoch, step = NAME.fullmatch(name).groups()  # type: ignore[union-attr]
    return int(epoch), int(step or 0)


def best_of(scores: Mapping[str, float | None]) -> str | None:
    """Return the checkpoint with the highest score, the newest of equals, or None if none has a score."""
    known = {name: score for name, score in scores.items() if score is not None}
    return max(known, key=lambda name: (known[name], position(name))) if known else None


def score_of(metrics: Mapping[str, float]) -> float | None:
    """Return the value that checkpoints are compared by.

    A checkpoint without anything to measure (NaN) gets the lowest score, one that was not evaluated gets None.
    """
    score = metrics.get(SCORE)
    return -math.inf if score is not None and math.isnan(score) else score


def _read_metrics(checkpoint: Path) -> dict[str, float]:
    path = checkpoint / METRICS
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def _describe_fault(path: Path) -> str:
    if not path.exists():
        return "no such checkpoint"
    if not path.is_dir():
        return "not a checkpoint folder: it is a file"
    if (path / CONFIG).is_file():
        return "a run without a checkpoint yet"
    return f"not a checkpoint folder: it has no {CONFIG}"


def _describe_others(path: Path) -> str:
    """Describe the checkpoints or runs nearest to a path."""
    near = next((folder for folder in (path, *path.parents) if folder.is_dir()), Path())
    if names := list_checkpoints(near):
        return f"; {near} has {_list_some(names)}; {near / LAST} is the newest, and {near} alone is the best"
    runs = [folder for folder in sorted(near.iterdir()) if folder.is_dir() and list_checkpoints(folder)]
    runs = runs or [folder.parent for folder in sorted(near.glob("*/*/epoch_*")) if list_checkpoints(folder.parent)]
    if runs:
        return f"; there are checkpoints in {_list_some(list(dict.fromkeys(map(str, runs))))}"
    return "; mrqm train makes checkpoints, by default in runs/NAME"


def _list_some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
