"""The origin of a checkpoint as tags for the registry, which identify code, configuration and weights."""

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
WEIGHTS_DIGEST = "checkpoint.sha256"
"""Tag with the digest of a version's file of weights."""


def describe_lineage(checkpoint: Path) -> dict[str, str]:
    """Make the tags of a checkpoint.

    Returns:
        `checkpoint.sha256` of the weights' file, `config.digest` of the configuration's file, `evaluation.view`,
        `mrqm.version` and, where `mrqm` runs from a git checkout, `code.commit`.
    """
    tags = {
        WEIGHTS_DIGEST: file_digest(checkpoint / WEIGHTS),
        "config.digest": file_digest(checkpoint / CONFIG),
        VIEW: describe_view(load_checkpoint_config(checkpoint).data),
        "mrqm.version": version("mrqm"),
    }
    commit = code_commit(Path(mrqm.__file__).parent)
    return tags | {"code.commit": commit} if commit else tags


def describe_view(data: DataConfig) -> str:
    """Describe the view of images in an evaluation, full or tiled, since other tiles contain other objects."""
    if data.tile is None:
        return "full"
    cut = data.tile.model_dump(exclude={"empty_fraction"})  # concerns training only
    cut |= {"scale": data.scale} if data.resize is None else data.resize.model_dump()
    return " ".join(["tiles", *(f"{key}={value}" for key, value in cut.items())])
