"""The origin of a checkpoint as tags for the registry: enough to know code, configuration and weights again."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import mrqm
from mrqm.checkpoint.files import CONFIG, WEIGHTS
from mrqm.checkpoint.folder import load_checkpoint_config
from mrqm.config import DataConfig
from mrqm.data.formats.digest import file_digest
from pipelines.tracking.git import code_commit

VIEW = "evaluation.view"


def describe_lineage(checkpoint: Path) -> dict[str, str]:
    """Tags of a checkpoint.

    Returns:
        `checkpoint.sha256` of the weights' file, `config.digest` of the configuration's, `evaluation.view`,
        `mrqm.version` and, where `mrqm` runs from a git checkout, `code.commit`.
    """
    tags = {
        "checkpoint.sha256": file_digest(checkpoint / WEIGHTS),
        "config.digest": file_digest(checkpoint / CONFIG),
        VIEW: describe_view(load_checkpoint_config(checkpoint).data),
        "mrqm.version": version("mrqm"),
    }
    commit = code_commit(Path(mrqm.__file__).parent)
    return tags | {"code.commit": commit} if commit else tags


def describe_view(data: DataConfig) -> str:
    """The view of images under which a model was scored: what is cut differently is scored on other objects."""
    if data.tile is None:
        return "full"
    cut = data.tile.model_dump(exclude={"empty_fraction"})  # empty tiles: of training only
    cut |= {"scale": data.scale} if data.resize is None else data.resize.model_dump()
    return " ".join(["tiles", *(f"{key}={value}" for key, value in cut.items())])
