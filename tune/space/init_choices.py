"""The detectors that trials start from: values of `model.init`, which fix the architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mrqm.checkpoint.ancestor import ARCHITECTURE
from mrqm.config import Config
from pipelines.storage.fingerprint import INIT
from tune.space.schema import Space


def init_choices(space: Space, values: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> list[str]:
    """List the values of `model.init` that trials may have, in the order of the space, each once.

    Args:
        space: space of the sweep.
        values: function that returns every key of a trial's configuration for the trial's parameters.

    Returns:
        The values other than null.
    """
    searched = [{key: value} for key, parameter in space.parameters.items() for value in parameter.choice or ()]
    tried: list[Mapping[str, Any]] = [{}, *searched, *space.points_to_evaluate]
    return list(dict.fromkeys(init for params in tried if (init := values(params)[INIT]) is not None))


def architecture_fault(key: str, space: Space, base: Config) -> str | None:
    """Describe the fault of a searched key that the detector of all trials fixes.

    Args:
        key: searched key.
        space: space of the sweep.
        base: configuration that all trials share.

    Returns:
        Sentence for the user; None if the key may be searched.
    """
    if base.model.init is None or INIT in space.parameters or key not in ARCHITECTURE:
        return None
    return f"parameters.{key}: model.init={base.model.init} fixes it; remove it from the space, or leave model.init out"
