"""The checkpoint that a path stands for.

    runs/demo/epoch_0012    a checkpoint's own folder
    runs/demo               the best checkpoint of a run, or the newest if none was evaluated
    runs/demo/last          its newest

`epoch_0003` is after three epochs, `epoch_0003_step_000350` within the fourth.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mrqm.checkpoint.files import CONFIG, METRICS, WEIGHTS
from mrqm.errors import UserError

NAME = re.compile(r"epoch_(\d+)(?:_step_(\d+))?")
LAST = "last"
SCORE = "coco/AP"
"""The metric that the best checkpoint of a run has the highest of."""
SHOWN = 6
"""Names that a message lists."""


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message names the file."""


def find_checkpoint(path: str | Path) -> Path:
    """Find the folder of a checkpoint.

    Args:
        path: of a checkpoint, of a run, or of a run and `last`.

    Raises:
        CheckpointError: there is none; the message says which there are.
    """
    path = Path(path)
    if (path / CONFIG).is_file() and (path / WEIGHTS).is_file():
        return path
    if names := list_checkpoints(path):
        scores = {name: score_of(_read_metrics(path / name)) for name in names}
        return path / (best_of(scores) or names[0])
    if path.name == LAST and not path.exists() and (names := list_checkpoints(path.parent)):
        return path.parent / names[0]
    if (path / CONFIG).is_file() and (NAME.fullmatch(path.name) or (path / METRICS).is_file()):
        return path  # damaged: whoever loads it says what is missing
    raise CheckpointError(f"{path}: {_describe_fault(path)}{_describe_others(path)}")


def list_checkpoints(run: Path) -> list[str]:
    """Names of the checkpoints in a run's folder, the newest first."""
    if not run.is_dir():
        return []
    whole = [path.name for path in run.iterdir() if (path / CONFIG).is_file() and (path / WEIGHTS).is_file()]
    return newest_first(whole)


def newest_first(names: Iterable[str]) -> list[str]:
    """The names among these that are a checkpoint's, the newest first."""
    return sorted(filter(NAME.fullmatch, names), key=position, reverse=True)


def position(name: str) -> tuple[int, int]:
    """Epochs that are done at a checkpoint, and the step of the run within the next."""
    epoch, step = NAME.fullmatch(name).groups()  # type: ignore[union-attr]
    return int(epoch), int(step or 0)


def best_of(scores: Mapping[str, float | None]) -> str | None:
    """The checkpoint with the highest score, of equals the newest; None if none has a score."""
    known = {name: score for name, score in scores.items() if score is not None}
    return max(known, key=lambda name: (known[name], position(name))) if known else None


def score_of(metrics: Mapping[str, float]) -> float | None:
    """What checkpoints are compared by; the lowest of all if there was nothing to measure, None if it was not tried."""
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
    """The checkpoints or runs nearest to a path."""
    near = next((folder for folder in (path, *path.parents) if folder.is_dir()), Path())
    if names := list_checkpoints(near):
        return f"; {near} has {_some(names)}, {near / LAST} is the newest of them, and {near} stands for its best"
    runs = [folder for folder in sorted(near.iterdir()) if folder.is_dir() and list_checkpoints(folder)]
    runs = runs or [folder.parent for folder in sorted(near.glob("*/*/epoch_*")) if list_checkpoints(folder.parent)]
    if runs:
        return f"; there are checkpoints in {_some(list(dict.fromkeys(map(str, runs))))}"
    return "; mrqm train makes checkpoints, by default in runs/NAME"


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
