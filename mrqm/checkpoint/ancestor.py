"""The trained detector that a training starts from: `model.init`.

runs/demo               the best checkpoint of a run, as in `mrqm.checkpoint.lookup`
street.safetensors      a checkpoint's file of weights by itself, which names its classes and architecture
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mrqm.checkpoint.files import CONFIG, WEIGHTS
from mrqm.checkpoint.lookup import CheckpointError, find_checkpoint
from mrqm.config import Config, load_config
from mrqm.config.dotted import flatten

SUFFIX = ".safetensors"
ARCHITECTURE = (
    "model.backbone.name",
    "model.hidden_dim",
    "model.num_heads",
    "model.num_points",
    "model.ffn_dim",
    "model.encoder",
    LOW_LEVEL_WIDTH := "model.refinement.low_level_ffn_dim",
)
"""Keys that decide if the weights of one detector are of any use to another."""
ANCHORS = ("loss.mining.anchor_scales", "loss.mining.anchor_ratios")
"""Keys that give the rows of the IoU-aware head their meaning."""
METADATA = "mrqm"
"""Entry of a weights file's metadata with the class names and settings as JSON."""


@dataclass(frozen=True)
class Ancestor:
    """Weights of a trained detector, with what is known of them.

    Attributes:
        path: file of the weights.
        weights: tensors by parameter name.
        classes: class names in label order; None if unknown.
        settings: values of `ARCHITECTURE` and `ANCHORS`, as far as they are known.
    """

    path: Path
    weights: Mapping[str, Tensor]
    classes: tuple[str, ...] | None
    settings: Mapping[str, Any]

    @property
    def anchors(self) -> list[tuple[float, float]] | None:
        """Scale and ratio of each anchor of a token, in order; None if unknown."""
        return anchors_of(self.settings)


def anchors_of(settings: Mapping[str, Any]) -> list[tuple[float, float]] | None:
    """List scale and ratio of each anchor of a token, in order; None for settings without them."""
    if not settings.keys() >= set(ANCHORS):
        return None
    scales, ratios = (settings[key] for key in ANCHORS)
    return [(scale, ratio) for scale in scales for ratio in ratios]


def describe_weights(config: Config) -> dict[str, str]:
    """Make the metadata of a weights file, with which it can be an ancestor by itself."""
    return {METADATA: json.dumps({"classes": config.data.classes, "settings": architecture_of(config)})}


def architecture_of(config: Config) -> dict[str, Any]:
    """Select the settings that give the weights of a detector their meaning."""
    values = flatten(config.model_dump(mode="json"))
    if config.model.encoder != "sae" or values[LOW_LEVEL_WIDTH] == config.model.ffn_dim:
        values[LOW_LEVEL_WIDTH] = None  # without effect
    return {key: values[key] for key in (*ARCHITECTURE, *ANCHORS)}


def find_weights(path: str | Path) -> Path:
    """Find the weights file of a detector.

    Args:
        path: file of weights, or what `find_checkpoint` takes.

    Raises:
        CheckpointError: there is no such file or checkpoint; the message lists those nearby.
    """
    if Path(path).suffix == SUFFIX and not Path(path).is_dir():
        if not Path(path).is_file():
            raise CheckpointError(f"{path}: no such file")
        return Path(path)
    return find_checkpoint(path) / WEIGHTS


def read_ancestor(path: Path) -> Ancestor:
    """Read the weights of a detector, and the classes and settings that lie beside or within the file.

    Args:
        path: file from `find_weights`.

    Raises:
        CheckpointError: the file is missing, damaged or has no weights of a detector.
        ConfigError: the configuration beside it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged, or not a safetensors file: {error}") from error
    if not any(name.startswith("query_selection.") for name in weights):
        raise CheckpointError(
            f"{path}: not a detector of mrqm: it has no tensor query_selection.*, but {_list_some(list(weights))}; "
            "if it is a backbone, set model.backbone.weights to it instead"
        )
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name} has values that are not finite; choose another checkpoint")
    return Ancestor(path, weights, *_read_meaning(path, metadata))


def _read_meaning(path: Path, metadata: Mapping[str, str]) -> tuple[tuple[str, ...] | None, Mapping[str, Any]]:
    """Read class names and settings: from the configuration in the folder of a checkpoint, else from the file."""
    if path.name == WEIGHTS and (path.parent / CONFIG).is_file():
        config = load_config(path.parent / CONFIG)
        return config.data.classes, architecture_of(config)
    try:
        known = json.loads(metadata.get(METADATA, "{}"))
        classes = known.get("classes")
        return None if classes is None else tuple(map(str, classes)), dict(known.get("settings") or {})
    except (ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: its metadata {METADATA} cannot be read: {error}") from error


def _list_some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "") if names else "none at all"
